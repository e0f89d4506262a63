"""What is served during the rebuild of a node: first by another node alone, then as before."""

from __future__ import annotations

from typing import Final

from gb10.controller.cluster.serving import described, serving_status
from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.snapshot import Served, Snapshot
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Tools

SOLO: Final = "solo"
CLUSTER: Final = "cluster"


class Serving:
    """Looks at what is served, and switches it. `node` is the one that is rebuilt."""

    def __init__(self, tools: Tools, node: str) -> None:
        self._tools = tools
        self._node = node

    def now(self) -> Served | None:
        """Return what is served now, if anything. Raise SERVING_UNDECIDED."""
        found = self._tools.view.status().serving
        if found is None or found.mode == "off":
            return None
        if found.mode == "undecided":
            raise Gb10Error("SERVING_UNDECIDED", "; ".join(found.reasons) or None)
        return Served(found.mode, found.node)

    def has_to_go_on(self, snapshot: Snapshot) -> bool:
        """Return True if something was served before, so that something has to answer meanwhile."""
        return snapshot.served is not None and described(self._tools.inventory)

    def status(self) -> ServingStatus:
        """Ask the nodes that are present what they serve."""
        return serving_status(self._tools.deploys.runner(self._present))

    def look(self, mode: str, where: str | None) -> Evidence:
        """Return the evidence that a mode is served, and for solo that this node serves it."""
        return serving_evidence(self.status(), mode, where)

    def look_at(self, keeper: str) -> Evidence:
        """Return the evidence that the keeper serves alone. Only the keeper is asked: the target may be leaving."""
        status = serving_status(self._tools.deploys.runner([keeper]), complete=False)
        return serving_evidence(status, SOLO, keeper)

    def switch(self, mode: str, where: str | None) -> None:
        """Serve a mode on the nodes that are present. Report it if another address answers then."""
        before = self.status().address
        title = f"Serve {mode}{f' on {where}' if where else ''}"
        self._tools.deploys.run("serving", title, self._present, mode=mode, node=where)
        after = self.status().address
        if before and after and before != after:
            self._tools.report("address-moved", node=self._node, before=before, after=after)
            self._tools.person.notify(f"what is served is at {after} now, no longer at {before}")

    @property
    def _present(self) -> tuple[str, ...]:
        return tuple(name for name in self._tools.inventory.names if name not in self._tools.view.absent)


def serving_evidence(found: ServingStatus, mode: str, where: str | None) -> Evidence:
    """Return the evidence that a mode is served well, and for solo that this node serves it."""
    if found.mode != mode or (where and mode == SOLO and found.node != where) or not found.healthy:
        return Evidence(False, "; ".join(found.reasons) or found.summary)
    return Evidence(True, found.summary, {"address": found.address})
