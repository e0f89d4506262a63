"""cluster, of a full wipe: bring a new cluster up."""

from __future__ import annotations

from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Tools


class NewCluster(Step):
    """Make a new cluster of all nodes, with its operators."""

    name = "cluster"
    title = "Bring a new cluster up"
    patience_seconds = 120.0

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def plan(self) -> str:
        return "a new cluster of all nodes, with its operators"

    def verify(self) -> Evidence:
        waiting = [host.name for host in self._tools.inventory.hosts if not self._tools.view.is_ready(host)]
        return Evidence(not waiting, f"not Ready: {', '.join(waiting)}" if waiting else "all nodes are Ready")

    def run(self) -> None:
        self._tools.deploys.run("cluster", self.title, self._tools.inventory.names)
