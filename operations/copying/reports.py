"""Reports of a copy: its plan, its progress, its result, its proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.copy import CopyProof
from gb10.facts.reading.reports import Measured
from gb10.facts.reading.values import FactValue
from gb10.operations.copying.image_plan import TagPlan
from gb10.operations.copying.plan import human
from gb10.programs.images.contents import Contents


class Silent:
    """A report without a line: a note says the same to a person."""

    line = None
    colour = None


@dataclass(frozen=True)
class CopyPlanned(Silent, FactValue):
    """What a copy will send."""

    source: str  # a node
    target: str
    src_path: str
    dest_path: str
    files: int
    bytes: int
    arrived: int  # bytes that an earlier copy has sent
    delete: int  # paths on the target
    ways: tuple[str, ...]  # rails, or "management"


@dataclass(frozen=True)
class ImagesPlanned(Silent, FactValue):
    """What a copy of images will send."""

    source: str  # a node
    target: str
    bytes: int  # at most
    images: tuple[TagPlan, ...]

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "at_most_bytes": self.bytes}


@dataclass(frozen=True)
class CopyMoved:
    """Progress of a copy. Bytes are those of the files' content."""

    sent: int
    total: int
    seconds: float
    rails: Mapping[str, int]  # rail -> bytes
    colour = None

    @property
    def line(self) -> str | None:
        if not self.sent or not self.seconds:
            return None
        rate = self.sent / self.seconds
        left = (self.total - self.sent) / rate
        how = f"{rate / 1e9:.2f} GB/s, {left:.0f} s left  {rail_rates(self.rails, self.seconds)}"
        return f"{human(self.sent)} of {human(self.total)}, {how}"


@dataclass(frozen=True)
class CopySent(FactValue):
    """The result of a sender."""

    sent: int  # bytes of the files' content
    wire: int  # bytes, with what rsync needs beside it
    resumed: int  # bytes that an earlier copy has sent
    seconds: float
    rails: Mapping[str, int]  # rail -> bytes
    lost_rails: tuple[str, ...]
    colour = None

    @property
    def line(self) -> str:
        rate = self.sent * 8 / self.seconds / 1e9 if self.seconds else 0.0
        rails = rail_rates(self.rails, self.seconds)
        return f"sent {human(self.sent)} in {self.seconds:.1f} s, {rate:.1f} Gb/s  {rails}"


@dataclass(frozen=True)
class CopyProven(Silent):
    """The result of comparing both nodes after a copy."""

    proof: CopyProof


@dataclass(frozen=True)
class ImageMoved(Measured):
    """Progress of saving or loading an image."""

    @property
    def line(self) -> str | None:
        if not self.seconds:
            return None
        rate = self.done / self.seconds / 1e9
        return f"{self.verb} {human(self.done)} of {human(self.total)}, {rate:.2f} GB/s"


@dataclass(frozen=True)
class ImageProven(Silent, FactValue):
    """The image that an engine has under a tag, the same as on the source (None: the node's own store)."""

    source: str | None
    target: str
    tag: str
    contents: Contents


def rail_rates(rails: Mapping[str, int], seconds: float) -> str:
    """Given bytes by rail and seconds, return the rate of each rail."""
    if not seconds:
        return ""
    return "  ".join(f"{name} {count * 8 / seconds / 1e9:.1f} Gb/s" for name, count in sorted(rails.items()))
