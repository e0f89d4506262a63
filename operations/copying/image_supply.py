"""Find where a node gets images: from its own store, or from another node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.copy import FileTree
from gb10.facts.docker import DockerEngine
from gb10.facts.images import DockerImages, SavedImages
from gb10.facts.reading.docker import STORE
from gb10.operations.copying.image_plan import Action, ImagePlan, Side, engine_bytes, plan_images, plan_loads
from gb10.operations.kit.operation import known
from gb10.operations.kit.peers import read_facts, this_node
from gb10.programs.answer import RefusedError
from gb10.programs.images.room import check_room


@dataclass(frozen=True)
class Supply:
    """Images and their source; None is the node's own store."""

    plan: ImagePlan
    here: Side
    source: Host | None = None
    there: Side | None = None


def images_here() -> Side:
    """Return the images of this node."""
    return Side(known(DockerImages), known(SavedImages))


def _images_of(*nodes: Host) -> list[Side | None]:
    """Return the images of nodes, read at the same time; None for one that cannot be reached."""
    facts = read_facts(*((node, fact, {}) for node in nodes for fact in (DockerImages, SavedImages)))
    pairs = zip(nodes, facts[::2], facts[1::2], strict=True)
    return [Side(engine, store) if node.connected else None for node, engine, store in pairs]


def from_source(tags: Sequence[str], source: Host) -> Supply:
    """Find images as the source has them. Raise RefusedError if it lacks one."""
    here, there = _images_of(this_node(), source)
    if here is None or there is None:
        raise RefusedError("NODE_UNREACHABLE", f"{source.name} does not answer")
    plan = plan_images(tags, there, here)
    if absent := plan.of(Action.ABSENT):
        stopped = " (its Docker engine does not answer)" if there.engine is None else ""
        raise RefusedError("IMAGE_MISSING", f"{source.name} has no image {', '.join(absent)}{stopped}")
    return Supply(plan, here, source, there)


def from_anywhere(tags: Sequence[str], peers: Sequence[Host]) -> list[Supply]:
    """Find images anywhere. Raise RefusedError for those that nobody has."""
    here = images_here()
    own = plan_loads(tags, here)
    supplies, wanted = [Supply(own.but(Action.ABSENT), here)], own.of(Action.ABSENT)
    for peer, there in zip(peers, _images_of(*peers) if wanted else [], strict=False):
        has = [tag for tag in wanted if there and there.contents(tag)]
        if there and has:
            supplies.append(Supply(plan_images(has, there, here), here, peer, there))
        wanted = [tag for tag in wanted if tag not in has]
    if wanted:
        asked = ", ".join(peer.name for peer in peers) or "no other node"
        raise RefusedError("IMAGE_MISSING", f"neither {host.name} nor {asked} has {', '.join(wanted)}")
    return supplies


def check_supplies(supplies: Sequence[Supply]) -> None:
    """Raise RefusedError if this node's engine does not answer, or if there is no room."""
    here = supplies[0].here
    if here.engine is None:
        raise RefusedError("DOCKER_STOPPED", "no Docker engine answers")
    if needed := sum(supply.plan.at_most_bytes for supply in supplies):
        check_room(STORE, _free_bytes(STORE), needed, "are to come")
    if new := max(engine_bytes(s.plan.to_load, s.there or s.here, s.here) for s in supplies):
        engine = known(DockerEngine)
        folder = engine.root if engine else "/var/lib/docker"
        # the engine unpacks the archive, and then the layers
        check_room(folder, _free_bytes(folder), 2 * new, "are needed to load an image")


def _free_bytes(folder: str) -> int:
    return known(FileTree, root=folder, paths=(), brief=True).free
