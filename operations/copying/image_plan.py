"""Plan of how a node gets images: pure functions of the images of both nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from gb10.facts.reading.docker import SavedImage, SavedStore, with_tag
from gb10.facts.reading.values import FactValue
from gb10.programs.images.contents import Contents, EngineImage, blob_path, known_layers
from gb10.programs.images.store import amount


@dataclass(frozen=True)
class Side:
    """The images of one node. `engine` is None if it does not answer, `store` if there is none."""

    engine: tuple[EngineImage, ...] | None
    store: SavedStore | None

    @property
    def saved(self) -> tuple[SavedImage, ...]:
        """The images of the store."""
        return self.store.images if self.store else ()

    @property
    def intact(self) -> dict[str, Contents]:
        """Tag -> contents of the intact images of the store."""
        return self.store.contents if self.store else {}

    @property
    def blobs(self) -> dict[str, int]:
        """Digest -> bytes of the blobs of the store."""
        return self.store.blobs if self.store else {}

    def image(self, tag: str) -> EngineImage | None:
        """Return the image of a tag in the engine."""
        return with_tag(self.engine or (), tag)

    def contents(self, tag: str) -> Contents | None:
        """Return the contents of a tag: in the engine, or else in the store."""
        image = self.image(tag)
        return image.contents if image else self.intact.get(tag)

    def has(self, tag: str, contents: Contents) -> bool:
        """Return True if the engine has a tag with these contents."""
        image = self.image(tag)
        return image is not None and image.contents == contents

    def layer_sizes(self) -> dict[str, int]:
        """Return layer -> bytes of the layers whose blobs are in the store. Images name layers by these digests."""
        sizes = {}
        for image in self.saved:
            for layer, blob in zip(image.record.contents.layers, image.record.layers, strict=True):
                if blob in self.blobs:
                    sizes[layer] = self.blobs[blob]
        return sizes


class Action(StrEnum):
    """What is done for a tag."""

    NOTHING = "nothing"  # the engine has it
    LOAD = "load"  # the node's own store has it
    MOVE = "move"  # blobs come from the source, then it is loaded
    ABSENT = "absent"  # the source does not have it


@dataclass(frozen=True)
class TagPlan(FactValue):
    """What is done for one tag."""

    tag: str
    action: Action
    save: bool = False  # the source has to save it first
    blobs: tuple[tuple[str, int], ...] = ()  # digest and bytes of what moves; unknown until the image is saved
    at_most_bytes: int = 0


@dataclass(frozen=True)
class ImagePlan:
    """What is done for all tags."""

    tags: tuple[TagPlan, ...]

    def of(self, *actions: Action) -> list[str]:
        """Return the tags with one of these actions."""
        return [plan.tag for plan in self.tags if plan.action in actions]

    @property
    def to_load(self) -> list[str]:
        return self.of(Action.LOAD, Action.MOVE)

    @property
    def to_save(self) -> list[str]:
        return [plan.tag for plan in self.tags if plan.save]

    @property
    def blobs(self) -> dict[str, int]:
        """Digest -> bytes of the blobs that move, as far as they are known. A blob of several tags counts once."""
        return {digest: size for plan in self.tags for digest, size in plan.blobs}

    @property
    def paths(self) -> list[str]:
        """Paths below the store of the blobs that move, as far as they are known."""
        return sorted(blob_path(digest) for digest in self.blobs)

    @property
    def at_most_bytes(self) -> int:
        """The most bytes that move: exact if nothing has to be saved first."""
        return sum(self.blobs.values()) + sum(plan.at_most_bytes for plan in self.tags if not plan.blobs)

    def lines(self) -> Iterator[str]:
        """Yield a line for each tag."""
        for plan in self.tags:
            yield f"{plan.tag}: {_describe(plan)}"


def _describe(plan: TagPlan) -> str:
    match plan.action:
        case Action.NOTHING:
            return "is there"
        case Action.ABSENT:
            return "the source does not have it"
        case Action.LOAD:
            return "is loaded from the node's own store"
    size = amount(plan.at_most_bytes)
    return f"saved on the source first, then at most {size}" if plan.save else f"{len(plan.blobs)} blobs, {size}"


def plan_images(tags: Iterable[str], source: Side, target: Side) -> ImagePlan:
    """Plan what gives the target's engine the tags as the source has them, which may be the target itself."""
    return ImagePlan(tuple(_plan(tag, source, target) for tag in dict.fromkeys(tags)))


def _plan(tag: str, source: Side, target: Side) -> TagPlan:
    contents = source.contents(tag)
    if contents is None:
        return TagPlan(tag, Action.ABSENT)
    if target.has(tag, contents):
        return TagPlan(tag, Action.NOTHING)
    if target.intact.get(tag) == contents:
        return TagPlan(tag, Action.LOAD)
    save = source.intact.get(tag) != contents
    for saved in source.saved:
        if saved.intact and saved.record.contents == contents:
            blobs = {digest: size for digest, size in saved.record.blobs.items() if target.blobs.get(digest) != size}
            return TagPlan(tag, Action.MOVE, save, tuple(sorted(blobs.items())), sum(blobs.values()))
    return TagPlan(tag, Action.MOVE, save, (), _at_most_bytes(tag, contents, source, target))


def _at_most_bytes(tag: str, contents: Contents, source: Side, target: Side) -> int:
    """Return the bytes of an image that is not saved: all but the layers that are known to be on the target."""
    image, here, there = source.image(tag), source.layer_sizes(), target.layer_sizes()
    layers = set(contents.layers)
    size = image.size_bytes if image else 0
    unknown = max(0, size - sum((here | there).get(layer, 0) for layer in layers))
    return unknown + sum(here[layer] for layer in layers if layer in here and layer not in there)


def engine_bytes(tags: Iterable[str], source: Side, target: Side) -> int:
    """Return the bytes that the largest of these tags adds to the target's engine, as far as they are known."""
    sizes = source.layer_sizes() | target.layer_sizes()
    found = [0]
    for tag in tags:
        image, contents = source.image(tag), source.contents(tag)
        if contents is None:
            continue
        known = known_layers(contents.layers, target.engine or ())
        new = contents.layers[known:]
        if image and not known and any(layer not in sizes for layer in new):
            found.append(image.size_bytes)
        else:
            found.append(sum(sizes.get(layer, 0) for layer in new))
    return max(found)
