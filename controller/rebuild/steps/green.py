"""green: wait until all nodes are healthy."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.services import Services
from gb10.controller.rebuild.step import Evidence, Step
from gb10.group_data.settings import RebuildSettings


class Green(Step):
    """Start Docker and K3s where somebody stopped them, and wait until nothing is amiss on any node."""

    name = "green"
    title = "All is green"

    def __init__(self, roles: Roles, sight: Sight, services: Services) -> None:
        self._target = roles.target
        self._names = roles.inventory.names
        self._sight = sight
        self._services = services

    @property
    def patience_seconds(self) -> float:
        return self._target.settings(RebuildSettings).validate_seconds

    def plan(self) -> str:
        return "see that all nodes are healthy, and start Docker and K3s where they were stopped meanwhile"

    def verify(self) -> Evidence:
        status = self._sight.status()
        if not status.healthy:
            return Evidence(False, "; ".join(status.reasons))
        return Evidence(True, f"all {len(status.nodes)} nodes are healthy")

    def run(self) -> None:
        self._services.wake(self._names, whole=True)
