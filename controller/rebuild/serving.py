"""What a rebuild does with serving: another node answers alone while one is away, and then it is served as before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from gb10.controller.cluster.serving import described, load_seconds, needs, serving_status
from gb10.controller.cluster.sight import Sight
from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.memory import Memory, Needs, recall
from gb10.controller.rebuild.steps import Evidence, Step
from gb10.controller.rebuild.tools import Tools
from gb10.group_data.settings import RebuildSettings

LOOK_SECONDS = 2.0
SOLO: Final = "solo"
CLUSTER: Final = "cluster"


class ServingPart:
    """The steps of one node's rebuild that concern serving: none where nothing is described, or nothing served."""

    def __init__(self, target: InventoryHost, keeper: InventoryHost, tools: Tools) -> None:
        self.target = target
        self.keeper = keeper
        self.tools = tools
        self._well_since: float | None = None

    @property
    def sight(self) -> Sight:
        return self.tools.sight

    def needs(self) -> Needs:
        """Models and images of all modes that are described."""
        return needs(self.tools.inventory)

    def mode_now(self) -> tuple[str | None, str | None]:
        """The mode and the node that answers; None where nothing is served. Raise SERVING_UNDECIDED."""
        found = self.sight.status().serving
        if found is None:
            return None, None
        if found.mode == "undecided":
            raise Gb10Error("SERVING_UNDECIDED", "; ".join(found.reasons) or None)
        return (None, None) if found.mode == "off" else (found.mode, found.node)

    def is_served(self, memory: Memory) -> bool:
        """Whether something was served before, so that something has to answer meanwhile."""
        return memory.serving is not None and described(self.tools.inventory)

    def has_begun_again(self) -> bool:
        """Whether the way back to the mode of before was begun: then nobody goes back to solo."""
        return self.tools.journal.last("step-began", node=self.target.name, step=CLUSTER) is not None

    def degrade(self) -> Iterator[Step]:
        """The steps to solo serving on the node that stays."""
        yield self._solo()
        yield self._watched()

    def _solo(self) -> Step:
        where = self.keeper.name

        def verify() -> Evidence:
            return self._served(SOLO, where)

        def run() -> None:
            self._switch(SOLO, where)

        def undo() -> str | None:
            memory = recall(self.tools.journal, self.target.name)
            if not memory or not memory.serving or self._served(memory.serving, memory.serving_node).holds:
                return None
            self._switch(memory.serving, memory.serving_node)
            return f"served as before: {self._status().summary}"

        seconds = float(load_seconds(self.tools.inventory, SOLO))
        plan = f"stop what is served on all nodes, and serve the smaller model on {where} alone"
        title = f"Serve on {where} alone"
        return Step(SOLO, title, lambda: plan, verify, run, undo, kind="load", patience_seconds=seconds)

    def _watched(self) -> Step:
        seconds = self.target.settings(RebuildSettings).solo_seconds

        def verify() -> Evidence:
            status = self._status()
            found = _evidence(status, SOLO, self.keeper.name)
            if not found.holds:
                self._well_since = None
                return found
            self._well_since = self._well_since or time.monotonic()
            so_far = self._well_seconds(status)
            if so_far < seconds:
                return Evidence(False, f"{found.text}; it is to do so for {seconds:.0f} s")
            return Evidence(True, f"{found.text}, for {so_far:.0f} s now")

        plan = f"watch {self.keeper.name} answer alone for {seconds:.0f} s"
        title = f"Watch {self.keeper.name} answer alone"
        patience = 2 * seconds + 60
        return Step("solo-watched", title, lambda: plan, verify, kind="load", patience_seconds=patience)

    def restore(self, memory: Memory) -> Step:
        """The step back to what was served before."""
        mode, where = memory.serving or CLUSTER, memory.serving_node

        def verify() -> Evidence:
            return self._served(mode, where if mode == SOLO else None)

        def run() -> None:
            self._switch(mode, where if mode == SOLO else None)

        seconds = float(load_seconds(self.tools.inventory, SOLO if mode == SOLO else CLUSTER))
        plan = f"serve as before: {mode}{f' on {where}' if mode == SOLO else ''}"
        return Step(CLUSTER, "Serve as before", lambda: plan, verify, run, kind="load", patience_seconds=seconds)

    def _well_seconds(self, status: ServingStatus) -> float:
        """How long it has been answering alone: as far as we saw, and not longer than what answers now has run."""
        if self._well_since is None:
            return 0.0
        ages = [node.youngest_seconds for node in status.nodes if node.node == self.keeper.name]
        return min([time.monotonic() - self._well_since, *(age for age in ages if age is not None)])

    def alone(self) -> Evidence:
        """Whether the node that stays answers alone, as it says itself: the other one may be on its way out."""
        keeper = self.tools.inventory.limit_pattern(self.keeper)
        return _evidence(serving_status(self.tools.runner([keeper]), complete=False), SOLO, self.keeper.name)

    def demand(self) -> Demand:
        """That another node has answered alone for a while, and does so now."""
        seconds = self.target.settings(RebuildSettings).solo_seconds
        status = self._status()
        found = _evidence(status, SOLO, self.keeper.name)
        well = self._well_seconds(status)
        holds = found.holds and well >= seconds
        text = f"{found.text}, for {well:.0f} s of {seconds:.0f}"
        return Demand("solo", holds, text, 0.0, "" if holds else self.tools.gb10("serving solo", self.keeper.name))

    def _served(self, mode: str, where: str | None) -> Evidence:
        return _evidence(self._status(), mode, where)

    def _switch(self, mode: str, where: str | None) -> None:
        before = self._status().address
        names = tuple(name for name in self.tools.inventory.names if name not in self.sight.absent)
        self.tools.work("serving", f"Serve {mode}{f' on {where}' if where else ''}", names, mode=mode, node=where)
        after = self._status().address
        if before and after and before != after:
            self.tools.report("address-moved", node=self.target.name, before=before, after=after)
            self.tools.notify(f"what is served is at {after} now, no longer at {before}")

    def _status(self) -> ServingStatus:
        hosts = [host for host in self.tools.inventory.hosts if host.name not in self.sight.absent]
        return serving_status(self.tools.runner([self.tools.inventory.limit_pattern(host) for host in hosts]))


def _evidence(found: ServingStatus, mode: str, where: str | None) -> Evidence:
    """Whether that is served in a mode, and for solo on that node."""
    if found.mode != mode or (where and mode == SOLO and found.node != where) or not found.healthy:
        return Evidence(False, "; ".join(found.reasons) or found.summary)
    return Evidence(True, found.summary, {"address": found.address})
