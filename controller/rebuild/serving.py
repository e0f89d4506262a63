"""What is served during the rebuild of a node: first by another node alone, then as before."""

from __future__ import annotations

from typing import Final

from gb10.controller.cluster.serving import described, needs, serving_status
from gb10.controller.cluster.sight import Sight
from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.memory import Memory, Needs, Served
from gb10.controller.rebuild.reporting import Report
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person, Work

SOLO: Final = "solo"
CLUSTER: Final = "cluster"


class Serving:
    """Looks what is served, and switches it."""

    def __init__(self, roles: Roles, sight: Sight, work: Work, report: Report, person: Person) -> None:
        self._roles = roles
        self._inventory = roles.inventory
        self._sight = sight
        self._work = work
        self._report = report
        self._person = person

    def needs(self) -> Needs:
        """Models and images that the modes of serving need."""
        return needs(self._inventory)

    def now(self) -> Served | None:
        """What is served now, if anything. Raise SERVING_UNDECIDED."""
        found = self._sight.status().serving
        if found is None or found.mode == "off":
            return None
        if found.mode == "undecided":
            raise Gb10Error("SERVING_UNDECIDED", "; ".join(found.reasons) or None)
        return Served(found.mode, found.node)

    def is_served(self, memory: Memory) -> bool:
        """Return True if something was served before, so that something has to answer meanwhile."""
        return memory.served is not None and described(self._inventory)

    def look(self, mode: str, where: str | None) -> Evidence:
        """Look whether a mode is served, and for solo whether that node serves it."""
        return evidence_of(self.status(), mode, where)

    def alone(self) -> Evidence:
        """Look whether the keeper answers alone. Only the keeper is asked: the target may be on its way out."""
        keeper = self._roles.keeper.name
        return evidence_of(serving_status(self._work.runner([keeper]), complete=False), SOLO, keeper)

    def switch(self, mode: str, where: str | None) -> None:
        """Serve a mode on the nodes that are there. Tell everybody if another address answers then."""
        before = self.status().address
        title = f"Serve {mode}{f' on {where}' if where else ''}"
        self._work("serving", title, self._present, mode=mode, node=where)
        after = self.status().address
        if before and after and before != after:
            self._report("address-moved", node=self._roles.name, before=before, after=after)
            self._person.notify(f"what is served is at {after} now, no longer at {before}")

    def status(self) -> ServingStatus:
        """Ask the nodes that are there what they serve."""
        return serving_status(self._work.runner(self._present))

    @property
    def _present(self) -> tuple[str, ...]:
        return tuple(name for name in self._inventory.names if name not in self._sight.absent)


def evidence_of(found: ServingStatus, mode: str, where: str | None) -> Evidence:
    """Return the evidence that a mode is served well, and for solo that this node serves it."""
    if found.mode != mode or (where and mode == SOLO and found.node != where) or not found.healthy:
        return Evidence(False, "; ".join(found.reasons) or found.summary)
    return Evidence(True, found.summary, {"address": found.address})
