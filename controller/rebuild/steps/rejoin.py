"""rejoin: bring K3s on the node back under its old name."""

from __future__ import annotations

from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import TargetStep


class Rejoin(TargetStep):
    """Let the node join its cluster again, or bring a new cluster up with all nodes in it."""

    name = "rejoin"
    title = "Bring {target.name} back into the cluster"
    patience_seconds = 120.0

    def plan(self) -> str:
        return "a new cluster on all nodes" if self.target.gets_new_cluster else "K3s, under its old name"

    def verify(self) -> Evidence:
        name, view = self.target.name, self.target.view
        install = view.k3s(self.target.host)
        if install is None or not install.is_active:
            return Evidence(False, f"K3s on {name} is {(install and install.unit_state) or 'not installed'}")
        if waiting := [host.name for host in self.target.inventory.hosts if not view.is_ready(host)]:
            return Evidence(False, f"{', '.join(waiting)} is not Ready")
        return Evidence(True, f"{name} is Ready, with K3s {install.version}")

    def run(self) -> None:
        target, names, run = self.target, self.target.inventory.names, self.target.deploys.run
        if target.gets_new_cluster:
            workers = tuple(host.name for host in target.others if "workers" in host.groups)
            run("k3s_teardown", "Take the workers out of the old cluster", workers)
            run("cluster", "Bring a new cluster up", names)
            return
        run("k3s_server" if target.is_head else "k3s_agent", f"Let {target.name} join again", (target.name,))
        if target.is_head:  # agents that were stopped while it was away can come up now
            target.start_services(names, whole=True)
