"""drain: keep new pods off the node, and move the others away."""

from __future__ import annotations

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.step import Evidence, first_names


class Drain(Safeguard):
    """Cordon the node and drain it."""

    name = "drain"
    title = "Drain {target.name}"
    patience_seconds = 30.0
    proves = "drained"

    def plan(self) -> str:
        pods = self.target.view.evictable(self.target.host) or ()
        return f"keep new pods off {self.target.name}, and move {len(pods)} away"

    def verify(self) -> Evidence:
        host, view = self.target.host, self.target.view
        cordoned, pods = view.is_cordoned(host), view.evictable(host)
        if cordoned is None or pods is None:
            return Evidence(False, "no API server answers")
        if not cordoned:
            return Evidence(False, f"{host.name} is not cordoned")
        if pods:
            return Evidence(False, f"on {host.name} are still {first_names(pods)}")
        return Evidence(True, "cordoned, and no pod is left that could be elsewhere")

    def run(self) -> None:
        head = (self.target.inventory.head.name,)
        self.target.deploys.run("drain_node", self.title, head, node=self.target.host.node_name)

    def undo(self) -> str | None:
        host, view = self.target.host, self.target.view
        if view.evictable(host) is None:
            text = f"no API server answers, so it is unknown whether pods may run on {host.name}"
            raise Gb10Error("SERVER_UNREACHABLE", text, host=self.target.inventory.head.name)
        if view.is_cordoned(host) in (None, self.target.snapshot.cordoned):
            return None
        self.target.restore_cordon()
        return f"pods may run on {host.name} again"

    def demand(self) -> Demand | None:
        if not self.target.now().k3s:
            return None
        command = f"kubectl drain {self.target.host.node_name} --ignore-daemonsets --delete-emptydir-data"
        return Demand.of(self.proves, self.verify(), self.target.view.age_seconds, command)
