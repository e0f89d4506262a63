"""provision: make the node what the inventory says."""

from __future__ import annotations

from gb10.controller.rebuild.step import Evidence, first_names
from gb10.controller.rebuild.target import TargetStep


class Provision(TargetStep):
    """Provision the node. It is done when a dry run finds nothing to change."""

    name = "provision"
    title = "Provision {target.name}"
    looks_first = False

    def plan(self) -> str:
        return f"accounts, hostname, /data, Docker, rails and sshd of {self.target.name}, as the inventory says"

    def verify(self) -> Evidence:
        found = self.target.deploys.dry_run("node", self.target.name)
        if changes := [operation.name for operation in found.changed]:
            return Evidence(False, f"not as the inventory says: {first_names(changes)}")
        return Evidence(True, f"all {len(found.operations)} parts are as the inventory says")

    def run(self) -> None:
        self.target.deploys.run("node", self.title, (self.target.name,))
