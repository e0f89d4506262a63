"""Which node does what during the rebuild of one of them."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost


@dataclass(frozen=True)
class Roles:
    """`target` is the node that is wiped."""

    inventory: Inventory
    target: InventoryHost

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def is_head(self) -> bool:
        return "head" in self.target.groups

    @property
    def head(self) -> InventoryHost:
        return self.inventory.head

    @property
    def others(self) -> list[InventoryHost]:
        """The nodes that stay, the head first."""
        others = (host for host in self.inventory.hosts if host.name != self.name)
        return sorted(others, key=lambda host: "head" not in host.groups)

    @property
    def keeper(self) -> InventoryHost:
        """The node that keeps models and images meanwhile: the head, or the first worker if the head is wiped.

        Raise REBUILD_IMPOSSIBLE if there is none.
        """
        if not self.others:
            raise Gb10Error("REBUILD_IMPOSSIBLE", f"{self.name} is alone: no other node could keep its models")
        return self.others[0]
