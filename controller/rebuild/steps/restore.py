"""restore: put the backup back, and with it the host keys of before."""

from __future__ import annotations

from typing import Any

from gb10.controller.host_keys import settle_host_key
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.history import RESTORE, NodeHistory
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Work
from gb10.controller.rebuild.words import some
from gb10.operations.backups.restore_plan import RESTORABLE
from gb10.operations.backups.restore_source import LATEST

K3S = "k3s"


class Restore(Step):
    """Restore the node. It is done when a dry run finds nothing to change, and the node shows its old host key."""

    name = RESTORE
    looks_first = False

    def __init__(self, target: InventoryHost, history: NodeHistory, work: Work, *, without_k3s: bool) -> None:
        self.title = f"Restore {target.name}"
        self._target = target
        self._history = history
        self._work = work
        self._without_k3s = without_k3s

    def plan(self) -> str:
        return (
            f"what the backup of {self._target.name} holds: accounts, keys, network, settings, K3s' state, "
            "host keys last"
        )

    def verify(self) -> Evidence:
        if settle_host_key(self._target) not in ("known", "recalled"):
            return Evidence(False, f"{self._target.name} does not show its host key of before")
        found = self._work.dry("restore", self._target.name, **self._arguments())
        if found.changed:
            return Evidence(False, f"not as in the backup: {some(operation.name for operation in found.changed)}")
        return Evidence(True, f"as in {self._backup}, under its host key of before")

    def run(self) -> None:
        self._work("restore", self.title, (self._target.name,), **self._arguments())
        settle_host_key(self._target)

    @property
    def _backup(self) -> str:
        """The backup that the gate has seen; without one, the latest there is."""
        found = self._history.backup
        return found.backup if found else LATEST

    def _arguments(self) -> dict[str, Any]:
        only = [part for part in RESTORABLE if part != K3S] if self._without_k3s else None
        return {"backup": self._backup, "only": only, "accept": self._history.accepted or None}
