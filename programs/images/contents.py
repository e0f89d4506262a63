"""The contents and names of images, in an engine and in the store."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

FORMAT = 1  # of records
# What `docker run` takes from an image besides its layers. Engines differ in the rest of the configuration.
RUN_SETTINGS = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Shell"),
    *("StopSignal", "User", "Volumes", "WorkingDir"),
)

Json = dict[str, Any]
HEX = re.compile(r"[0-9a-f]{64}")
BLOBS = "blobs/sha256"


@dataclass(frozen=True)
class Contents:
    """What makes two images equal. The ID does not: it depends on the engine and changes between save and load."""

    architecture: str
    layers: tuple[str, ...]  # digests of the layers as uncompressed tars
    settings: str  # digest of what `docker run` takes from the image

    @classmethod
    def of(cls, image: Json, layers: Sequence[str], settings: Json | None) -> Contents:
        """Return the contents of an image.

        + image: its description by `docker inspect`, or its configuration
        """
        kept = {key: (settings or {}).get(key) for key in RUN_SETTINGS}
        text = json.dumps({key: value for key, value in kept.items() if value}, sort_keys=True)
        return cls(
            architecture=str(image.get("Architecture") or image.get("architecture") or ""),
            layers=tuple(layers),
            settings=hashlib.sha256(text.encode()).hexdigest(),
        )

    @classmethod
    def from_json(cls, document: Json) -> Contents:
        return cls(str(document["architecture"]), tuple(document["layers"]), str(document["settings"]))


@dataclass(frozen=True)
class EngineImage:
    """An image in the engine."""

    id: str
    tags: tuple[str, ...]
    contents: Contents
    size_bytes: int
    digests: tuple[str, ...]  # of registries, "repository@sha256:..."; lost by save and load

    @classmethod
    def inspected(cls, image: Json) -> EngineImage:
        """Return the image that `docker image inspect` describes. Raise KeyError for anything else."""
        layers = (image.get("RootFS") or {}).get("Layers") or ()
        return cls(
            id=str(image["Id"]),
            tags=tuple(sorted(tag for tag in image.get("RepoTags") or () if "<none>" not in tag)),
            contents=Contents.of(image, layers, image.get("Config")),
            size_bytes=int(image.get("Size") or 0),
            digests=tuple(sorted({name for name in image.get("RepoDigests") or () if "<none>" not in name})),
        )

    def to_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True)
class Record:
    """An image in the store: a tag and its blobs."""

    tag: str
    contents: Contents
    size_bytes: int  # in the engine it came from
    digests: tuple[str, ...]
    config: str  # digest
    layers: tuple[str, ...]  # blobs, in the order of contents.layers; compressed ones have other digests
    manifests: tuple[Json, ...]  # OCI descriptors; none from an engine that writes the legacy layout
    blobs: dict[str, int]  # digest -> size in bytes, of everything above

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the blobs that are missing or have another size.

        + sizes: digest -> size of the blobs that are there
        """
        return sorted(digest for digest, size in self.blobs.items() if sizes.get(digest) != size)

    def layer_blobs(self) -> dict[str, str]:
        """Return the digest of each layer as images name it -> digest of its blob."""
        return dict(zip(self.contents.layers, self.layers, strict=True))

    def to_json(self) -> Json:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, document: Json) -> Record:
        """Return the record that `to_json` described. Raise ValueError for anything else."""
        try:
            record = cls(
                tag=str(document["tag"]),
                contents=Contents.from_json(document["contents"]),
                size_bytes=int(document["size_bytes"]),
                digests=tuple(document["digests"]),
                config=str(document["config"]),
                layers=tuple(document["layers"]),
                manifests=tuple(document["manifests"]),
                blobs={str(digest): int(size) for digest, size in document["blobs"].items()},
            )
            named = {record.config, *record.layers, *(str(entry["digest"]) for entry in record.manifests)}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of an image: {error!r}") from error
        consistent = named <= record.blobs.keys() and len(record.layers) == len(record.contents.layers)
        if document.get("format") != FORMAT or not consistent or not all(map(is_digest, record.blobs)):
            raise ValueError("a record that this version does not understand")
        return record


def known_layers(layers: Sequence[str], images: Iterable[EngineImage]) -> int:
    """Return how many layers, from the lowest up, the engine has in this order: they need not be sent again."""
    return max((_common(layers, image.contents.layers) for image in images), default=0)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other)  # noqa: B905 - they may differ in length
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def needed_blobs(record: Record, known: int) -> dict[str, int]:
    """Return the blobs that an archive must hold if the engine has this many of the lowest layers."""
    left_out = set(record.layers[:known]) - set(record.layers[known:])
    return {digest: size for digest, size in record.blobs.items() if digest not in left_out}


def is_digest(text: str) -> bool:
    """Return True for a sha256 digest as Docker writes it."""
    return text.startswith("sha256:") and HEX.fullmatch(text[7:]) is not None


def blob_path(digest: str) -> str:
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def familiar(tag: str) -> str:
    """Return a tag, as people type it, as the engine lists it: "docker.io/library/a" is "a:latest".

    Raise ValueError for anything else.
    """
    if not re.fullmatch(r"[\w.:/-]+", tag) or tag.startswith(("-", "/")):
        raise ValueError(f"{tag!r} is no tag of an image")
    hub = "index.docker.io/" if tag.startswith("index.") else "docker.io/"
    name = tag.removeprefix(hub).removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def full_name(tag: str) -> str:
    """Return a tag, as the engine lists it, with registry and repository, as containerd names it."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"
