"""Docker images on the nodes: those that must be there, and copies of them on the data disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyinfra.context import host

from gb10.group_data.settings import ImageSettings
from gb10.operations import images as operations
from gb10.operations.copying.options import CopyOptions
from gb10.operations.kit.inventory import deploy, invalid, is_node, named, nodes, read_settings
from gb10.programs.images.contents import familiar


@deploy("Images")
def images(tags: Sequence[str] | None = None) -> None:
    """
    Have images in the engine: from the node's own store, or from the first other node that has them.

    + tags: instead of `images` of group_data/all.py

    One node after the other, since a node that takes may be the one that another would take from.
    """
    wanted = _tags(tags)
    if wanted and is_node():
        operations.present(
            name=f"Have {len(wanted)} images",
            tags=wanted,
            peers=[peer for peer in nodes() if peer.name != host.name],
            _serial=True,
        )


@deploy("Sync images", also=CopyOptions.names())
def sync_images(source: str, tags: Sequence[str] | None = None, **options: Any) -> None:
    """
    Have images as another node has them, over the rails and without what is there already.

    + source: name of the host that has them
    + tags: instead of `images` of group_data/all.py
    + options: those of gb10.operations.copying.options.CopyOptions
    """
    wanted = _tags(tags)
    if not wanted:
        raise invalid("no tag is named, and `images` of group_data/all.py is empty")
    if host.name != source:
        operations.sync(
            name=f"Get {len(wanted)} images from {source}",
            tags=wanted,
            source=named(source),
            _serial=True,
            options=CopyOptions(**options),
        )


@deploy("Save images")
def save_images(tags: Sequence[str] | None = None) -> None:
    """
    Have images of the engine on the data disk, which may outlive the system.

    + tags: instead of `images` of group_data/all.py
    """
    if wanted := _tags(tags):
        operations.save(name=f"Save {len(wanted)} images", tags=wanted)


@deploy("Prune images")
def prune_images() -> None:
    """Remove from the data disk what no saved image needs."""
    operations.prune(name="Prune the saved images")


def _tags(tags: Sequence[str] | None) -> list[str]:
    return [familiar(tag) for tag in read_settings(ImageSettings, images=tags).images]
