"""Names of images and of their parts."""

from __future__ import annotations

import re

HEX = re.compile(r"[0-9a-f]{64}")
BLOBS = "blobs/sha256"


def is_digest(text: str) -> bool:
    """Return True for a sha256 digest as Docker writes it."""
    return text.startswith("sha256:") and HEX.fullmatch(text[7:]) is not None


def blob_path(digest: str) -> str:
    """Given a digest, return where its blob lies below the store."""
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def familiar(tag: str) -> str:
    """Given a tag as people type it, return it as the engine lists it: "docker.io/library/a" is "a:latest".

    Raise ValueError for what is no tag.
    """
    if not re.fullmatch(r"[\w.:/-]+", tag) or tag.startswith(("-", "/")):
        raise ValueError(f"{tag!r} is no tag of an image")
    hub = "index.docker.io/" if tag.startswith("index.") else "docker.io/"
    name = tag.removeprefix(hub).removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def full_name(tag: str) -> str:
    """Given a familiar tag, return it with registry and folder, as containerd knows it."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"
