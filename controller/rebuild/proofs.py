"""Proofs that the gate asks for, beyond what the steps before it bring about."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.controller.cluster.sight import Sight
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person
from gb10.operations.copying.plan import human

ROOM_FACTOR = 1.1  # of what comes back, for what an estimate does not know


class LockProof:
    """The nodes are locked by this run."""

    def __init__(self, hosts: Sequence[InventoryHost], run: str, sight: Sight, person: Person) -> None:
        self._hosts = hosts
        self._run = run
        self._sight = sight
        self._person = person

    def demand(self) -> Demand:
        for host in self._hosts:
            holder = self._sight.lock(host)
            if holder is None or holder.run != self._run:
                whose = f"is held by {holder.owner}@{holder.controller}" if holder else "is held by nobody"
                remedy = self._person.command("rebuild unlock", host.name)
                return self._demand(Evidence(False, f"the lock of {host.name} {whose}"), remedy)
        return self._demand(Evidence(True, "all nodes are locked by this run"))

    def _demand(self, found: Evidence, remedy: str = "") -> Demand:
        return Demand.of("lock", found, self._sight.age_seconds, remedy)


class RoomProof:
    """The node's disk has room for what comes back."""

    def __init__(self, target: InventoryHost, notebook: Notebook, sight: Sight) -> None:
        self._target = target
        self._notebook = notebook
        self._sight = sight

    def demand(self) -> Demand:
        size, wanted = self._sight.data_bytes(self._target), int(self._notebook.now().bytes * ROOM_FACTOR)
        found = Evidence(wanted < size, f"{human(wanted)} come back, its disk has {human(size)}")
        return Demand.of("room", found, self._sight.age_seconds, "Name less in rebuild_models (group_data/)")
