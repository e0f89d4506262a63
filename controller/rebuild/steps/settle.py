"""settle: wait for first boot, updates, Docker and driver, and lock the nodes again."""

from __future__ import annotations

from gb10.controller.rebuild.step import AWAY, Evidence
from gb10.controller.rebuild.target import TargetStep


class Settle(TargetStep):
    """Wait until a fresh installation is at rest, and lock all nodes."""

    name = "settle"
    title = "Let {target.name} settle"
    patience_seconds = 3600.0  # updates after an installation take their time

    def plan(self) -> str:
        return f"wait until {self.target.name} has finished its first boot and its updates"

    def verify(self) -> Evidence:
        name, view, run = self.target.name, self.target.view, self.target.tools.journal.run
        if waits := view.waits_for(self.target.host):
            return Evidence(False, f"{name} still waits for {', '.join(waits)}")
        holders = {host.name: view.lock(host) for host in self.target.inventory.hosts}
        if unlocked := [name for name, holder in holders.items() if holder is None or holder.run != run]:
            return Evidence(False, f"{', '.join(unlocked)} is not locked by this run")
        return Evidence(True, "boot, packages, Docker and GPU driver are at rest, and the nodes are locked")

    def run(self) -> None:
        def lock() -> None:
            self.target.tools.locks.take(self.target.inventory.names, f"bring {self.target.name} back")

        self.target.retry(lock, AWAY, self.patience_seconds)  # updates may reboot it
