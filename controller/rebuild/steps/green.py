"""green: wait until all nodes are healthy."""

from __future__ import annotations

from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import TargetStep
from gb10.group_data.settings import RebuildSettings


class Green(TargetStep):
    """Start Docker and K3s where somebody stopped them, and wait until all nodes are healthy."""

    name = "green"
    title = "All is green"

    @property
    def patience_seconds(self) -> float:
        return self.target.host.settings(RebuildSettings).validate_seconds

    def plan(self) -> str:
        return "see that all nodes are healthy, and start Docker and K3s where they were stopped meanwhile"

    def verify(self) -> Evidence:
        status = self.target.view.status()
        if not status.healthy:
            return Evidence(False, "; ".join(status.reasons))
        return Evidence(True, f"all {len(status.nodes)} nodes are healthy")

    def run(self) -> None:
        self.target.start_services(self.target.inventory.names, whole=True)
