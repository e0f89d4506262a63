"""Docker images: in the engine, and saved on the node's data disk."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.sections import read_sections, sections, understood
from gb10.facts.reading.values import FactValue
from gb10.programs.image_store import EngineImage, Record

STORE = "/data/docker-images"
LIST_SECONDS, CHECK_SECONDS = 120, 4 * 3600


@dataclass(frozen=True)
class SavedImage(FactValue):
    """An image in the store."""

    record: Record
    missing: tuple[str, ...]  # digests of blobs that are not there, or not of their size
    damaged: tuple[str, ...]  # digests of blobs that are not what their names say; known only after a deep check

    @property
    def tag(self) -> str:
        return self.record.tag

    @property
    def intact(self) -> bool:
        """Whether it can be loaded, as far as was looked."""
        return not self.missing and not self.damaged


@dataclass(frozen=True)
class SavedStore(FactValue):
    """A node's store of images."""

    images: tuple[SavedImage, ...]
    blobs: dict[str, int]  # digest -> size in bytes; also of blobs that belong to no image
    strange: tuple[str, ...]  # files among the records that are none
    set_aside_bytes: int  # of blobs that were found to be damaged
    free_bytes: int

    def image(self, tag: str) -> SavedImage | None:
        """The image of a tag, or None."""
        return next((image for image in self.images if image.tag == tag), None)

    @property
    def surplus_bytes(self) -> int:
        """What a prune would free."""
        needed = {digest for image in self.images for digest in image.record.blobs}
        return self.set_aside_bytes + sum(size for digest, size in self.blobs.items() if digest not in needed)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SavedStore:
        """Given what `to_json` returned, return the store."""
        images = (
            SavedImage(
                Record.from_json({"format": 1, **image["record"]}), tuple(image["missing"]), tuple(image["damaged"])
            )
            for image in document["images"]
        )
        return cls(
            images=tuple(images),
            blobs=dict(document["blobs"]),
            strange=tuple(document["strange"]),
            set_aside_bytes=int(document["set_aside_bytes"]),
            free_bytes=int(document["free_bytes"]),
        )


class DockerImages(FactBase[tuple[EngineImage, ...] | None]):
    """Every image in the Docker engine that has a tag, or None where no engine answers.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections(
            {
                "engine": "timeout 20 docker version --format '{{.Server.Version}}'",
                # An image that goes between the two commands is no error.
                "images": "ids=$(docker image ls --quiet --no-trunc | sort -u); "
                """[ -z "$ids" ] || docker image inspect --format '{{json .}}' $ids""",
            }
        )

    @understood
    def process(self, output: list[str]) -> tuple[EngineImage, ...] | None:
        found = read_sections(output)
        if not found["engine"].first:
            return None
        images = (EngineImage.inspected(json.loads(line)) for line in found["images"].lines if line.startswith("{"))
        return tuple(sorted((image for image in images if image.tags), key=lambda image: image.tags))


class SavedImages(FactBase[SavedStore | None]):
    """What lies in the node's store of images, and whether it is intact; None where there is no store.

    + deep: read every blob and compare its sha256, not only its size: as long as the disk takes

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, deep: bool = False) -> StringCommand:
        command, seconds = ("check", CHECK_SECONDS) if deep else ("list", LIST_SECONDS)
        words = ("timeout", str(seconds), "python3", "-c", store_program(), command, STORE)
        return sections({"store": shlex.join(words)})

    @understood
    def process(self, output: list[str]) -> SavedStore | None:
        section = read_sections(output)["store"]
        if section.status != 0:
            raise ValueError(f"the store could not be read (status {section.status})")
        return parse_store(section.text)


def store_program() -> str:
    """The program that runs on the nodes."""
    return files("gb10.programs").joinpath("image_store.py").read_text()


def parse_store(text: str) -> SavedStore | None:
    """Given what image_store.py prints for `list` and `check`, return the store. Raise ValueError or KeyError."""
    found = json.loads(text)
    if found is None:
        return None
    blobs: dict[str, int] = found["blobs"]
    records = (Record.from_json(document) for document in found["images"])
    images = (_saved(record, blobs, found["damaged"]) for record in records)
    return SavedStore(
        images=tuple(images),
        blobs=blobs,
        strange=tuple(found["strange"]),
        set_aside_bytes=int(found["set_aside_bytes"]),
        free_bytes=int(found["free_bytes"]),
    )


def _saved(record: Record, blobs: dict[str, int], damaged: Sequence[str]) -> SavedImage:
    missing = (digest for digest, size in record.blobs.items() if blobs.get(digest) != size)
    return SavedImage(record, tuple(missing), tuple(digest for digest in damaged if digest in record.blobs))


def with_tag(images: Iterable[EngineImage], tag: str) -> EngineImage | None:
    """Given images, return the one that has a tag, or None."""
    return next((image for image in images if tag in image.tags), None)
