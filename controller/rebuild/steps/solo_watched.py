"""solo-watched: watch the node that stays answer alone for a while."""

from __future__ import annotations

import time

from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.serving import SOLO, serving_evidence
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target
from gb10.group_data.settings import RebuildSettings


class SoloWatched(Safeguard):
    """Watch until the keeper has answered alone for `rebuild_solo_seconds`."""

    name = "solo-watched"
    title = "Watch {target.keeper.name} answer alone"
    kind = "load"
    proves = "solo"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._keeper = target.keeper.name
        self._seconds = target.host.settings(RebuildSettings).solo_seconds
        self._well_since: float | None = None

    @property
    def patience_seconds(self) -> float:
        return 2 * self._seconds + 60

    def plan(self) -> str:
        return f"watch {self._keeper} answer alone for {self._seconds:.0f} s"

    def verify(self) -> Evidence:
        status = self.target.serving.status()
        found = serving_evidence(status, SOLO, self._keeper)
        if not found.holds:
            self._well_since = None
            return found
        self._well_since = self._well_since or time.monotonic()
        well = self._well_seconds(status)
        if well < self._seconds:
            return Evidence(False, f"{found.text}; it has to do so for {self._seconds:.0f} s")
        return Evidence(True, f"{found.text}, for {well:.0f} s now")

    def demand(self) -> Demand | None:
        if not self.target.serving.has_to_go_on(self.target.now()):
            return None
        status = self.target.serving.status()
        found, well = serving_evidence(status, SOLO, self._keeper), self._well_seconds(status)
        text = f"{found.text}, for {well:.0f} s of {self._seconds:.0f}"
        holds = Evidence(found.holds and well >= self._seconds, text)
        return Demand.of(self.proves, holds, 0.0, self.target.tools.person.command("serving solo", self._keeper))

    def _well_seconds(self, status: ServingStatus) -> float:
        """Return how long the keeper has answered alone: since we first saw it, and since its engine started."""
        if self._well_since is None:
            return 0.0
        ages = [node.youngest_seconds for node in status.nodes if node.node == self._keeper]
        return min([time.monotonic() - self._well_since, *(age for age in ages if age is not None)])
