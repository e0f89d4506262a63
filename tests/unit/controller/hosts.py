"""Hosts of an inventory, as the controller knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gb10.controller.inventory import InventoryHost
from gb10.group_data.settings import Settings


def inventory_host(name: str, *groups: str, **said: Any) -> InventoryHost:
    """A host in groups, with what the inventory says of it."""
    return InventoryHost(name, groups, Settings(said))


def saying(one: InventoryHost, **said: Any) -> InventoryHost:
    """The same host, of which the inventory says more or otherwise."""
    return replace(one, said=Settings({**one.said.said, **said}))
