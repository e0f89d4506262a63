"""What an image consists of, in an engine and in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from gb10.programs.images.names import is_digest

FORMAT = 1  # of records
# What `docker run` takes from an image besides its layers. Engines show the rest of the configuration differently.
RUN_SETTINGS = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Shell"),
    *("StopSignal", "User", "Volumes", "WorkingDir"),
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """What makes two images equal. The ID does not: it depends on the engine and changes between save and load."""

    architecture: str
    layers: tuple[str, ...]  # digests of the layers as uncompressed tars
    settings: str  # digest of what `docker run` takes from the image

    @classmethod
    def of(cls, image: Json, layers: Sequence[str], settings: Json | None) -> Contents:
        """Given an image as `docker inspect` or its configuration describes it, return its contents."""
        kept = {key: (settings or {}).get(key) for key in RUN_SETTINGS}
        text = json.dumps({key: value for key, value in kept.items() if value}, sort_keys=True)
        return cls(
            architecture=str(image.get("Architecture") or image.get("architecture") or ""),
            layers=tuple(layers),
            settings=hashlib.sha256(text.encode()).hexdigest(),
        )

    @classmethod
    def from_json(cls, document: Json) -> Contents:
        """Given the JSON of contents, return them."""
        return cls(str(document["architecture"]), tuple(document["layers"]), str(document["settings"]))


@dataclass(frozen=True)
class EngineImage:
    """An image in the engine."""

    id: str
    tags: tuple[str, ...]
    contents: Contents
    size_bytes: int
    digests: tuple[str, ...]  # as a registry knows them, "repository@sha256:..."; lost by save and load

    @classmethod
    def inspected(cls, image: Json) -> EngineImage:
        """Given what `docker image inspect` prints of one image, return it. Raise KeyError for anything else."""
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
    """What a tag in the store consists of."""

    tag: str
    contents: Contents
    size_bytes: int  # in the engine it came from
    digests: tuple[str, ...]
    config: str  # digest
    layers: tuple[str, ...]  # blobs, in the order of contents.layers: another digest where they are compressed
    manifests: tuple[Json, ...]  # OCI descriptors; none from an engine that writes the legacy layout
    blobs: dict[str, int]  # digest -> size in bytes, of everything above

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        """Given digest -> size of blobs that are there, return which of this image are not, or not of their size."""
        return sorted(digest for digest, size in self.blobs.items() if sizes.get(digest) != size)

    def layer_blobs(self) -> dict[str, str]:
        """Return layer -> blob: the digest that images know it by, and the blob that holds it."""
        return dict(zip(self.contents.layers, self.layers, strict=True))

    def to_json(self) -> Json:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, document: Json) -> Record:
        """Given a record's JSON, return it. Raise ValueError for anything else."""
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
    """Return how many layers of an image, from the lowest up, the engine has in this order.

    An engine keeps a layer together with those below it, so it does not need any of these again.
    """
    return max((_common(layers, image.contents.layers) for image in images), default=0)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other)  # noqa: B905 - as far as both go
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def needed_blobs(record: Record, known: int) -> dict[str, int]:
    """Return the blobs that an archive must hold if the engine knows so many of the lowest layers."""
    left_out = set(record.layers[:known]) - set(record.layers[known:])
    return {digest: size for digest, size in record.blobs.items() if digest not in left_out}
