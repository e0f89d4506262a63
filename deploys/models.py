"""Hugging Face models that must be on the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints
from pyinfra.api import Host, deploy
from pyinfra.api.exceptions import DeployError
from pyinfra.context import host

from gb10.deploys.settings import checked, head, is_node, nodes, value
from gb10.group_data import all as defaults
from gb10.operations import models as operations

# "org/name" as on the Hub, "name" alone for the oldest, a kind before it, or everything.
RepositoryName = Annotated[str, StringConstraints(pattern=r"^(\*|((datasets|spaces)/)?([\w.-]+/)?[\w.-]+)$")]


class ModelSettings(BaseModel):
    """Which models a node must have, and from which node it takes them."""

    models: list[RepositoryName]
    models_from: str | None


@deploy("Models")
def models(names: Sequence[str] | None = None, source: str | None = None, **options: Any) -> None:
    """
    Have models in the Hugging Face cache, copied from a node that has them.

    + names: instead of `models` of group_data/all.py: "org/name", "datasets/org/name", or "*" for all that is there
    + source: instead of `models_from`: name of the host that has them; without either, the first other node that
      has a model that is not here, and for "*" the head
    + options: network, transport, verify, dangling, force, progress_seconds, as gb10.operations.cx7.sync has them
    """
    chosen = {"models": names, "models_from": source}
    settings = checked(ModelSettings, {key: value(key) if given is None else given for key, given in chosen.items()})
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
            **options,
        )
        return
    peer = _source(settings.models_from)
    if host.name == peer.name:
        return
    what = "all models" if operations.EVERYTHING in settings.models else f"{len(settings.models)} models"
    operations.present(
        name=f"Have {what} of {peer.name}",
        names=settings.models,
        source=peer,
        hub=hub_of(host),
        source_hub=hub_of(peer),
        **options,
    )


def hub_of(node: Host) -> str:
    """Given a host, return the folder of its Hugging Face cache that holds the repositories."""
    return f"{node.data.get('node_huggingface_home') or defaults.node_huggingface_home}/hub"


def _source(name: str | None) -> Host:
    if name is None:
        return head()
    found = host.inventory.get_host(name, default=None)
    if found is None:
        raise DeployError(f"gb10: SETTINGS_INVALID: the inventory has no host {name!r}")
    return host.inventory.get_host(name)
