"""Docker images between nodes: saved into a store of blobs, moved as far as they are missing, loaded.

Two images are the same if their gb10.programs.images.contents.Contents are equal, never by their ID. Every operation
leaves a store that is intact, and an engine that has an image either as it was or as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.images import SavedImages
from gb10.facts.reading.docker import STORE
from gb10.operations.copying.image_copy import (
    MOVE,
    from_anywhere,
    from_source,
    image_commands,
    images_here,
    run_store,
)
from gb10.operations.copying.image_plan import Side
from gb10.operations.copying.options import CopyOptions
from gb10.operations.kit.operation import Commands, call, known, operation
from gb10.operations.kit.peers import this_node
from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import familiar


@operation()
def save(tags: Sequence[str]) -> Commands:
    """
    Save images of the engine in the node's store.

    + tags: as people type them; without a version, "latest" is meant

    What is saved already is not read again. Layers that images share are saved once.
    """
    side, wanted = _images_with_engine(), _familiar(tags)
    contents = {tag: image.contents for image in side.engine or () for tag in image.tags}
    absent = [tag for tag in wanted if tag not in contents]
    if absent:
        raise RefusedError("IMAGE_MISSING", f"{host.name} has no image {', '.join(absent)}")
    unsaved = [tag for tag in wanted if side.intact.get(tag) != contents[tag]]
    if not unsaved:
        host.noop("the images are saved")
        return
    yield call(run_store, this_node(), "save", tags=unsaved)


@operation()
def load(tags: Sequence[str]) -> Commands:
    """
    Load images of the node's store into its engine.

    + tags: as people type them; without a version, "latest" is meant

    Every blob is checked on the way. Layers that the engine has are not loaded again.
    """
    side, wanted = _images_with_engine(), _familiar(tags)
    saved = side.intact
    absent = [tag for tag in wanted if tag not in saved]
    if absent:
        raise RefusedError("IMAGE_MISSING", f"{host.name} has no intact {', '.join(absent)} in {STORE}")
    unloaded = [tag for tag in wanted if not side.has(tag, saved[tag])]
    if not unloaded:
        host.noop("the images are loaded")
        return
    yield call(run_store, this_node(), "load", tags=unloaded)


@operation()
def sync(tags: Sequence[str], source: Host, options: CopyOptions) -> Commands:
    """
    Have images in the engine as another node has them, by way of both nodes' stores.

    + tags: as people type them; without a version, "latest" is meant
    + source: the host that has them, in its engine or in its store
    + options: how to copy

    Only blobs that this node's store lacks are moved. A blob that turns out to be damaged when it is
    loaded is fetched again.
    """
    options.check()
    wanted = _familiar(tags)
    yield from image_commands(lambda: [from_source(wanted, source)], replace(MOVE, **asdict(options)))


@operation()
def present(tags: Sequence[str], peers: Sequence[Host]) -> Commands:
    """
    Have images in the engine: as they are here already, from the node's own store, or from a peer that has them.

    + tags: as people type them; without a version, "latest" is meant
    + peers: the hosts to ask, in this order
    """
    wanted = _familiar(tags)
    yield from image_commands(lambda: from_anywhere(wanted, peers))


@operation()
def prune() -> Commands:
    """Remove from the store what no image needs: layers of images that were saved again, and damaged blobs.

    Do not run it while another node sends images: their blobs look unneeded until all have arrived.
    """
    store = known(SavedImages)
    if store is None or not store.surplus_bytes:
        host.noop("every blob is needed")
        return
    yield call(run_store, this_node(), "prune")


def _images_with_engine() -> Side:
    """Return the images of this node. Raise RefusedError if its engine does not answer."""
    side = images_here()
    if side.engine is None:
        raise RefusedError("DOCKER_STOPPED", f"{host.name}: no Docker engine answers")
    return side


def _familiar(tags: Iterable[str]) -> list[str]:
    try:
        return list(dict.fromkeys(map(familiar, tags)))
    except ValueError as error:
        raise RefusedError("SETTINGS_INVALID", f"{host.name}: {error}") from error
