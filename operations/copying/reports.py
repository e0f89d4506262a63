"""What a copy reports: its plan, how far it is, what came of it, and its proof."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gb10.facts.reading.copy import CopyProof
from gb10.operations.copying.image_plan import TagPlan
from gb10.programs.images.contents import Contents


@dataclass(frozen=True)
class CopyPlanned:
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
    colour = None

    @property
    def line(self) -> str:
        return f"gb10-copy-plan: {json.dumps(self.to_json())}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ways": list(self.ways)}


@dataclass(frozen=True)
class ImagesPlanned:
    """What a copy of images will send: at most so many bytes."""

    source: str  # a node
    target: str
    bytes: int
    images: tuple[TagPlan, ...]
    colour = None

    @property
    def line(self) -> str:
        return f"gb10-copy-plan: {json.dumps(self.to_json())}"

    def to_json(self) -> dict[str, Any]:
        images = [plan.to_json() for plan in self.images]
        return {
            "source": self.source,
            "target": self.target,
            "bytes": self.bytes,
            "images": images,
            "at_most_bytes": self.bytes,
        }


@dataclass(frozen=True)
class CopyMoved:
    """How far a copy is. Bytes are those of the files' content."""

    sent: int
    total: int
    seconds: float
    rails: Mapping[str, int]  # rail -> bytes
    colour = None

    @property
    def line(self) -> str:
        rails = " ".join(f"{name}={count}" for name, count in self.rails.items())
        return f"gb10-copy: sent={self.sent} of={self.total} seconds={self.seconds:.1f} {rails}"


@dataclass(frozen=True)
class CopySent:
    """What a sender has sent."""

    sent: int  # bytes of the files' content
    wire: int  # bytes, with what rsync needs beside it
    resumed: int  # bytes that an earlier copy has sent
    seconds: float
    rails: Mapping[str, int]  # rail -> bytes
    lost_rails: tuple[str, ...]
    colour = None

    @property
    def line(self) -> str:
        return f"gb10-copy-result: {json.dumps(self.to_json())}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "lost_rails": list(self.lost_rails)}


@dataclass(frozen=True)
class CopyProven:
    """What the comparison of both nodes after a copy has shown."""

    proof: CopyProof
    colour = None

    @property
    def line(self) -> str:
        return f"gb10-copy-proof: {json.dumps(self.proof.to_json())}"


@dataclass(frozen=True)
class ImageMoved:
    """How far a node is with saving or loading an image."""

    verb: str  # "saved" or "loaded"
    done: int  # bytes
    total: int
    seconds: float
    colour = None

    @property
    def line(self) -> str:
        return f"gb10-images: {self.verb}={self.done} of={self.total} seconds={self.seconds:.1f}"


@dataclass(frozen=True)
class ImageProven:
    """What an engine has under a tag, as the source has it; `source` is None for the node's own store."""

    source: str | None
    target: str
    tag: str
    contents: Contents
    colour = None

    @property
    def line(self) -> str:
        return f"gb10-images-proof: {json.dumps(self.to_json())}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
