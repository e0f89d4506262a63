"""The summary that lies beside an archive: what may be known of a backup without opening it. Nothing secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from gb10.programs.archive.manifest import FORMAT, Manifest, damaged, is_about, newer

SUMMARIZED = ("role", "machine", "versions")  # of what a manifest tells about its node
TEXTS = ("id", "node", "created", "sha256", "manifest_sha256")


def summary_of(manifest: Manifest, sha256: str, size: int, encrypted: bool) -> dict[str, Any]:
    """Return the summary of a backup.

    + sha256, size: of the archive as it is kept
    """
    return {
        "format": manifest.format,
        "id": manifest.id,
        "node": manifest.node,
        "created": manifest.created,
        "sha256": sha256,
        "size": size,
        "manifest_sha256": manifest.sha256,
        "encrypted": encrypted,
        "parts": list(manifest.parts),
        "members": len(manifest.members),
        "notes": len(manifest.notes),
        **{name: manifest.about.get(name) for name in SUMMARIZED},
    }


def encode_summary(summary: Mapping[str, Any]) -> bytes:
    """Return a summary as it stands in its file."""
    return json.dumps(summary, sort_keys=True, indent=1).encode() + b"\n"


def decode_summary(content: bytes) -> dict[str, Any]:
    """Given the content of a summary's file, return it. Raise RefusedError if gb10 did not write it so."""
    try:
        found = json.loads(content)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
            raise newer(f"version {found['format']}")
        whole = (
            isinstance(found, dict)
            and encode_summary(found) == content
            and all(isinstance(found.get(name), str) for name in TEXTS)
            and isinstance(found.get("size"), int)
            and isinstance(found.get("encrypted"), bool)
            and is_about(found)
        )
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise damaged("its summary is not as it was written")
    return cast(dict[str, Any], found)


def agree(manifest: Manifest, summary: Mapping[str, Any]) -> None:
    """Raise RefusedError if a manifest is not the one that a summary tells of."""
    if manifest.sha256 != summary["manifest_sha256"]:
        raise damaged("its manifest is not the one that its summary names")
    if summary_of(manifest, summary["sha256"], summary["size"], summary["encrypted"]) != summary:
        raise damaged("its summary tells of another backup")
