"""rails: wait for both halves of the cable."""

from __future__ import annotations

from gb10.controller.cluster.health import disagreements, rail_faults
from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence, Step


class Rails(Step):
    """Wait until the rails are up and fit those of the keeper."""

    name = "rails"
    title = "Rails"
    patience_seconds = 60.0

    def __init__(self, roles: Roles, sight: Sight) -> None:
        self._target, self._keeper = roles.target, roles.keeper
        self._sight = sight

    def plan(self) -> str:
        return "see the rails come up"

    def verify(self) -> Evidence:
        status = self._sight.status()
        nodes = {node.name: node for node in status.nodes}
        faults = [fault for host in (self._target, self._keeper) for fault in rail_faults(nodes[host.name], host.rails)]
        faults += [text for _, text in disagreements(status.nodes)]
        if faults:
            return Evidence(False, "; ".join(faults))
        if nodes[self._target.name].connectx7 is None:
            return Evidence(True, f"{self._target.name} has no ConnectX-7")
        return Evidence(True, f"{len(self._target.rails)} rails to {self._keeper.name} are up")
