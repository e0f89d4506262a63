"""rejoin: bring K3s on the node back under its old name."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.cluster_return import ClusterReturn
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.services import Services
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Work

JOIN_SECONDS = 120.0


class Rejoin(Step):
    """Let the node join its cluster again, or bring a new cluster up with all nodes in it."""

    name = "rejoin"
    patience_seconds = JOIN_SECONDS

    def __init__(self, roles: Roles, cluster: ClusterReturn, sight: Sight, work: Work, services: Services) -> None:
        self.title = f"Bring {roles.name} back into the cluster"
        self._roles = roles
        self._cluster = cluster
        self._sight = sight
        self._work = work
        self._services = services

    def plan(self) -> str:
        return "a new cluster on all nodes" if self._cluster.is_new else "K3s, under its old name"

    def verify(self) -> Evidence:
        name, install = self._roles.name, self._sight.k3s(self._roles.target)
        if install is None or not install.is_active:
            return Evidence(False, f"K3s on {name} is {(install and install.unit_state) or 'not installed'}")
        waiting = [host.name for host in self._roles.inventory.hosts if not self._sight.is_ready(host)]
        if waiting:
            return Evidence(False, f"{', '.join(waiting)} is not Ready")
        return Evidence(True, f"{name} is Ready, with K3s {install.version}")

    def run(self) -> None:
        names = self._roles.inventory.names
        if self._cluster.is_new:
            workers = tuple(host.name for host in self._roles.others if "workers" in host.groups)
            self._work("k3s_teardown", "Take the workers out of the old cluster", workers)
            self._work("cluster", "Bring a new cluster up", names)
            return
        deploy = "k3s_server" if self._roles.is_head else "k3s_agent"
        self._work(deploy, f"Let {self._roles.name} join again", (self._roles.name,))
        if self._roles.is_head:  # agents that were stopped while it was away can come up now
            self._services.wake(names, whole=True)
