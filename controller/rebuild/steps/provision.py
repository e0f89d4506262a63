"""provision: make the node what the inventory says."""

from __future__ import annotations

from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Work
from gb10.controller.rebuild.words import some


class Provision(Step):
    """Provision the node. It is done when a dry run finds nothing to change."""

    name = "provision"
    looks_first = False

    def __init__(self, node: str, work: Work) -> None:
        self.title = f"Provision {node}"
        self._node = node
        self._work = work

    def plan(self) -> str:
        return f"accounts, hostname, /data, Docker, rails and sshd of {self._node}, as the inventory says"

    def verify(self) -> Evidence:
        found = self._work.dry("node", self._node)
        if lacking := [operation.name for operation in found.changed]:
            return Evidence(False, f"not as the inventory says: {some(lacking)}")
        return Evidence(True, f"all {len(found.operations)} parts are as the inventory says")

    def run(self) -> None:
        self._work("node", self.title, (self._node,))
