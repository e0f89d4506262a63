"""settle: wait for first boot, updates, Docker and driver, and lock the nodes again."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.engine import AWAY
from gb10.controller.rebuild.patience import Patience
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import NodeLocks

SETTLE_SECONDS = 3600.0  # updates after an installation take their time


class Settle(Step):
    """Let a fresh installation come to rest, and lock all nodes."""

    name = "settle"
    patience_seconds = SETTLE_SECONDS

    def __init__(self, roles: Roles, run: str, sight: Sight, locks: NodeLocks, patience: Patience) -> None:
        self.title = f"Let {roles.name} settle"
        self._roles = roles
        self._run = run
        self._sight = sight
        self._locks = locks
        self._patience = patience

    def plan(self) -> str:
        return f"wait until {self._roles.name} has done with its first boot and its updates"

    def verify(self) -> Evidence:
        if waits := self._sight.waits_for(self._roles.target):
            return Evidence(False, f"{self._roles.name} still waits for {', '.join(waits)}")
        holders = {host.name: self._sight.lock(host) for host in self._roles.inventory.hosts}
        unlocked = [name for name, holder in holders.items() if holder is None or holder.run != self._run]
        if unlocked:
            return Evidence(False, f"{', '.join(unlocked)} is not locked by this run")
        return Evidence(True, "boot, packages, Docker and GPU driver are at rest, and the nodes are locked")

    def run(self) -> None:
        names, part = self._roles.inventory.names, f"bring {self._roles.name} back"
        self._patience(lambda: self._locks.take(names, part), AWAY, SETTLE_SECONDS)  # updates boot it once more
