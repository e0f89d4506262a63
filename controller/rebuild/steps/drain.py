"""drain: keep new pods off the node, and move the others away."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.services import Cordon
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Work
from gb10.controller.rebuild.words import some


class Drain(Safeguard):
    """Cordon the node and drain it."""

    name = "drain"
    patience_seconds = 30.0
    proves = "drained"

    def __init__(self, roles: Roles, notebook: Notebook, sight: Sight, work: Work, cordon: Cordon) -> None:
        self.title = f"Drain {roles.name}"
        self._roles = roles
        self._notebook = notebook
        self._sight = sight
        self._work = work
        self._cordon = cordon

    def plan(self) -> str:
        pods = self._sight.evictable(self._roles.target) or ()
        return f"keep new pods off {self._roles.name}, and move {len(pods)} away"

    def verify(self) -> Evidence:
        cordoned, pods = self._sight.is_cordoned(self._roles.target), self._sight.evictable(self._roles.target)
        if cordoned is None or pods is None:
            return Evidence(False, "no API server answers")
        if not cordoned:
            return Evidence(False, f"{self._roles.name} is not cordoned")
        if pods:
            return Evidence(False, f"on {self._roles.name} are still {some(pods)}")
        return Evidence(True, "cordoned, and no pod is left that could be elsewhere")

    def run(self) -> None:
        head, node = self._roles.head.name, self._roles.target.node_name
        self._work("drain_node", self.title, (head,), node=node)

    def undo(self) -> str | None:
        target = self._roles.target
        if self._sight.evictable(target) is None:
            text = f"no API server answers, so nobody can tell whether pods may run on {target.name}"
            raise Gb10Error("SERVER_UNREACHABLE", text, host=self._roles.head.name)
        if self._sight.is_cordoned(target) in (None, self._cordon.wanted):
            return None
        self._cordon.set_back()
        return f"pods may run on {target.name} again"

    def demand(self) -> Demand | None:
        if not self._notebook.now().k3s:
            return None
        command = f"kubectl drain {self._roles.target.node_name} --ignore-daemonsets --delete-emptydir-data"
        return Demand.of(self.proves, self.verify(), self._sight.age_seconds, command)
