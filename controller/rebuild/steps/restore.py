"""restore: put the backup back, and with it the old host keys."""

from __future__ import annotations

from typing import Any

from gb10.controller.host_keys import settle_host_key
from gb10.controller.rebuild.runs import RESTORE
from gb10.controller.rebuild.step import Evidence, first_names
from gb10.controller.rebuild.target import Target, TargetStep
from gb10.operations.backups.restore_plan import RESTORABLE
from gb10.operations.backups.restore_source import LATEST


class Restore(TargetStep):
    """Restore the node. It is done when a dry run finds nothing to change, and the node shows its old host key."""

    name = RESTORE
    title = "Restore {target.name}"
    looks_first = False

    def __init__(self, target: Target, *, without_k3s: bool) -> None:
        super().__init__(target)
        self._without_k3s = without_k3s

    def plan(self) -> str:
        return (
            f"what the backup of {self.target.name} holds: accounts, keys, network, settings, K3s' state, "
            "host keys last"
        )

    def verify(self) -> Evidence:
        if settle_host_key(self.target.host) not in ("known", "recalled"):
            return Evidence(False, f"{self.target.name} does not show its old host key")
        found = self.target.deploys.dry_run("restore", self.target.name, **self._arguments())
        if found.changed:
            return Evidence(False, f"not as in the backup: {first_names(change.name for change in found.changed)}")
        return Evidence(True, f"as in {self._backup}, under its old host key")

    def run(self) -> None:
        self.target.deploys.run("restore", self.title, (self.target.name,), **self._arguments())
        settle_host_key(self.target.host)

    @property
    def _backup(self) -> str:
        """The backup that the gate has accepted; without one, the latest."""
        return self.target.history.backup or LATEST

    def _arguments(self) -> dict[str, Any]:
        only = [part for part in RESTORABLE if part != "k3s"] if self._without_k3s else None
        return {"backup": self._backup, "only": only, "accept": self.target.history.accepted or None}
