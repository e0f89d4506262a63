"""admit: let pods onto the node again, unless it was cordoned before."""

from __future__ import annotations

from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import TargetStep


class Admit(TargetStep):
    """Set the cordon of the node back to what it was."""

    name = "admit"
    title = "Let pods onto {target.name}"

    def plan(self) -> str:
        again = f"let pods onto {self.target.name} again"
        return "keep it cordoned, as it was before" if self.target.snapshot.cordoned else again

    def verify(self) -> Evidence:
        cordoned = self.target.view.is_cordoned(self.target.host)
        if cordoned is None:
            return Evidence(False, f"{self.target.name} is no node of the cluster")
        if cordoned != self.target.snapshot.cordoned:
            return Evidence(False, "its cordon is not as before")
        return Evidence(True, "cordoned, as it was before" if cordoned else "pods may run on it")

    def run(self) -> None:
        self.target.restore_cordon()
