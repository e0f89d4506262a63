"""Hugging Face models that must be on the nodes, copied from another node or downloaded from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyinfra.context import host

from gb10.group_data.settings import ModelSettings, NodeWorkplace
from gb10.operations import models as operations
from gb10.operations.copying.options import CopyOptions
from gb10.operations.kit.inventory import deploy, head, hub_of, is_node, named, nodes, read_settings

DOWNLOAD_SECONDS = 24 * 3600  # for one model, over a slow line


@deploy("Models", also=CopyOptions.names())
def models(names: Sequence[str] | None = None, source: str | None = None, **options: Any) -> None:
    """
    Have models in the Hugging Face cache, copied from a node that has them.

    + names: instead of `models` of group_data/all.py: "org/name", "datasets/org/name", or "*" for all that is there
    + source: instead of `models_from`: name of the host that has them; without either, the first other node that
      has a model that is not here, and for "*" the head
    + options: those of gb10.operations.copying.options.CopyOptions
    """
    settings = read_settings(ModelSettings, models=names, models_from=source)
    if not settings.models or (source is None and not is_node()):
        return
    if settings.models_from is None and operations.EVERYTHING not in settings.models:
        peers = [peer for peer in nodes() if peer.name != host.name]
        operations.available(
            name=f"Have {len(settings.models)} models",
            names=settings.models,
            peers=peers,
            hub=hub_of(host),
            peer_hubs={peer.name: hub_of(peer) for peer in peers},
            _serial=True,
            options=CopyOptions(**options),
        )
        return
    peer = head() if settings.models_from is None else named(settings.models_from)
    if host.name == peer.name:
        return
    what = "all models" if operations.EVERYTHING in settings.models else f"{len(settings.models)} models"
    operations.present(
        name=f"Have {what} of {peer.name}",
        names=settings.models,
        source=peer,
        hub=hub_of(host),
        source_hub=hub_of(peer),
        options=CopyOptions(**options),
    )


@deploy("Download models")
def download_models(names: Sequence[str]) -> None:
    """
    Have models in the Hugging Face cache, from the Hub, as the user who logs in.

    + names: as on the Hub: "org/name", "datasets/org/name"
    """
    if names:
        home = read_settings(NodeWorkplace).huggingface_home
        title = f"Download {len(names)} model{'' if len(names) == 1 else 's'}"
        operations.downloaded(name=title, names=list(names), home=home, seconds=DOWNLOAD_SECONDS, _sudo=False)
