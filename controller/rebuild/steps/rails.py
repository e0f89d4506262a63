"""rails: wait for both halves of the cable."""

from __future__ import annotations

from gb10.controller.cluster.health import disagreements, rail_faults
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import TargetStep


class Rails(TargetStep):
    """Wait until the rails are up and fit those of the keeper."""

    name = "rails"
    title = "Rails"
    patience_seconds = 60.0

    def plan(self) -> str:
        return "see the rails come up"

    def verify(self) -> Evidence:
        target, keeper = self.target.host, self.target.keeper
        status = self.target.view.status()
        nodes = {node.name: node for node in status.nodes}
        faults = [fault for host in (target, keeper) for fault in rail_faults(nodes[host.name], host.rails)]
        faults += [text for _, text in disagreements(status.nodes)]
        if faults:
            return Evidence(False, "; ".join(faults))
        if nodes[target.name].connectx7 is None:
            return Evidence(True, f"{target.name} has no ConnectX-7")
        return Evidence(True, f"{len(target.rails)} rails to {keeper.name} are up")
