"""The node that stays, watched while a person wipes the other one. If it fails, the person has to know."""

from __future__ import annotations

import time
from collections.abc import Callable

from gb10.controller.cluster.sight import Sight
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.arrival import Seen
from gb10.controller.rebuild.reporting import Report
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence

LOOK_SECONDS = 30.0
STILL_THERE = ("still-there", "unwiped")  # the wipe has not begun


class Survivor:
    """Looks at the keeper from time to time, and tells when it fails and when it is back."""

    def __init__(
        self,
        roles: Roles,
        look: Callable[[], Evidence],
        report: Report,
        notify: Callable[[str], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._target, self._keeper = roles.target.name, roles.keeper.name
        self._look = look
        self._report = report
        self._notify = notify
        self._look_seconds = look_seconds
        self._next = 0.0
        self._well = True

    def __call__(self, seen: Seen) -> None:
        """Look, if it is time to. If the keeper has changed, say what the person at the target should do now.

        `seen` is what is seen of the target.
        """
        if time.monotonic() < self._next:
            return
        found = self._look()
        self._next = time.monotonic() + self._look_seconds
        if found.holds == self._well:
            return
        self._well = found.holds
        text = self._meaning(found, intact=seen.kind in STILL_THERE)
        self._report("keeper", node=self._target, keeper=self._keeper, well=found.holds, text=text)
        self._notify(text)

    def _meaning(self, found: Evidence, *, intact: bool) -> str:
        target, keeper = self._target, self._keeper
        if found.holds:
            return f"{keeper} is well again: {target} may be wiped" if intact else f"{keeper} is well again"
        if intact:
            return f"do NOT wipe {target} now: {keeper}, which is to stand in for it, is not well ({found.text})"
        return f"{keeper}, which stands in for {target}, is not well ({found.text}): look after it, {target} can wait"


def answers(host: InventoryHost, sight: Sight) -> Evidence:
    """Ask a host, and return the evidence that it answers."""
    trouble = sight.trouble(host)
    return Evidence(trouble is None, trouble or f"{host.name} answers")
