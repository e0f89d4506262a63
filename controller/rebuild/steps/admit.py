"""admit: let pods onto the node again, unless it was cordoned before."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.services import Cordon
from gb10.controller.rebuild.step import Evidence, Step


class Admit(Step):
    """Set the cordon of the node back to what it was."""

    name = "admit"

    def __init__(self, roles: Roles, sight: Sight, cordon: Cordon) -> None:
        self._target = roles.target
        self.title = f"Let pods onto {roles.name}"
        self._sight = sight
        self._cordon = cordon

    def plan(self) -> str:
        again = f"let pods onto {self._target.name} again"
        return "keep it cordoned, as it was before" if self._cordon.wanted else again

    def verify(self) -> Evidence:
        cordoned = self._sight.is_cordoned(self._target)
        if cordoned is None:
            return Evidence(False, f"{self._target.name} is no node of the cluster")
        if cordoned != self._cordon.wanted:
            return Evidence(False, "it is not as before")
        return Evidence(True, "cordoned, as it was before" if cordoned else "pods may run on it")

    def run(self) -> None:
        self._cordon.set_back()
