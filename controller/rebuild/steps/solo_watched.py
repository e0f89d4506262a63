"""solo-watched: watch the node that stays answer alone for a while."""

from __future__ import annotations

import time

from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.serving import SOLO, Serving, evidence_of
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person
from gb10.group_data.settings import RebuildSettings


class SoloWatched(Safeguard):
    """Watch until the keeper has answered alone for `rebuild_solo_seconds`."""

    name = "solo-watched"
    kind = "load"
    proves = "solo"

    def __init__(self, roles: Roles, notebook: Notebook, serving: Serving, person: Person) -> None:
        self._keeper = roles.keeper.name
        self.title = f"Watch {self._keeper} answer alone"
        self._seconds = roles.target.settings(RebuildSettings).solo_seconds
        self._notebook = notebook
        self._serving = serving
        self._person = person
        self._well_since: float | None = None

    @property
    def patience_seconds(self) -> float:
        return 2 * self._seconds + 60

    def plan(self) -> str:
        return f"watch {self._keeper} answer alone for {self._seconds:.0f} s"

    def verify(self) -> Evidence:
        status = self._serving.status()
        found = evidence_of(status, SOLO, self._keeper)
        if not found.holds:
            self._well_since = None
            return found
        self._well_since = self._well_since or time.monotonic()
        so_far = self._well_seconds(status)
        if so_far < self._seconds:
            return Evidence(False, f"{found.text}; it is to do so for {self._seconds:.0f} s")
        return Evidence(True, f"{found.text}, for {so_far:.0f} s now")

    def demand(self) -> Demand | None:
        if not self._serving.is_served(self._notebook.now()):
            return None
        status = self._serving.status()
        found, well = evidence_of(status, SOLO, self._keeper), self._well_seconds(status)
        text = f"{found.text}, for {well:.0f} s of {self._seconds:.0f}"
        holds = Evidence(found.holds and well >= self._seconds, text)
        return Demand.of(self.proves, holds, 0.0, self._person.command("serving solo", self._keeper))

    def _well_seconds(self, status: ServingStatus) -> float:
        """How long the keeper has answered alone: since we first saw it, and since its engine was started."""
        if self._well_since is None:
            return 0.0
        ages = [node.youngest_seconds for node in status.nodes if node.node == self._keeper]
        return min([time.monotonic() - self._well_since, *(age for age in ages if age is not None)])
