"""Docker on a node: what users own in it, and images, also saved ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gb10.facts.reading.values import FactValue
from gb10.programs.images.contents import Contents, EngineImage, Record


@dataclass(frozen=True)
class Belongings(FactValue):
    """Volumes by name, or by a short id; and containers, running or not, that no program recreates."""

    volumes: tuple[str, ...]
    containers: tuple[str, ...]  # neither of Kubernetes nor what gb10 serves with


STORE = "/data/docker-images"


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
        """True if no blob of it is known to be missing or damaged."""
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
    def contents(self) -> dict[str, Contents]:
        """What the intact images are made of, by tag."""
        return {image.tag: image.record.contents for image in self.images if image.intact}

    @property
    def surplus_bytes(self) -> int:
        """Bytes that a prune would free."""
        needed = {digest for image in self.images for digest in image.record.blobs}
        return self.set_aside_bytes + sum(size for digest, size in self.blobs.items() if digest not in needed)


def with_tag(images: Iterable[EngineImage], tag: str) -> EngineImage | None:
    """Given images, return the one that has a tag, or None."""
    return next((image for image in images if tag in image.tags), None)
