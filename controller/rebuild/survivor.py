"""The node that stays, watched while a person is about to wipe the other one, or does: whoever is there must know."""

from __future__ import annotations

import time
from collections.abc import Callable

from gb10.controller.cluster.sight import LOCK
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.arrival import Seen
from gb10.controller.rebuild.steps import Evidence
from gb10.controller.rebuild.tools import Tools

LOOK_SECONDS = 30.0
STILL_THERE = ("still-there", "unwiped")  # so the wipe has not begun


class Survivor:
    """Looks at the node that stays now and then, and tells when it fails and when it is back.

    `alone` tells whether it answers for the models meanwhile; None where it does not have to.
    """

    def __init__(
        self,
        target: InventoryHost,
        keeper: InventoryHost,
        tools: Tools,
        alone: Callable[[], Evidence] | None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._target = target
        self._keeper = keeper
        self._tools = tools
        self._alone = alone
        self._look_seconds = look_seconds
        self._next = 0.0
        self._well = True

    def __call__(self, seen: Seen) -> None:
        """Look, if it is time to, and tell what that means for who is at the other node, which is seen like that."""
        if time.monotonic() < self._next:
            return
        found = self._alone() if self._alone else self._answers()
        self._next = time.monotonic() + self._look_seconds
        if found.holds == self._well:
            return
        self._well = found.holds
        text = self._meaning(found, intact=seen.kind in STILL_THERE)
        self._tools.report("keeper", node=self._target.name, keeper=self._keeper.name, well=found.holds, text=text)
        self._tools.notify(text)

    def _meaning(self, found: Evidence, *, intact: bool) -> str:
        target, keeper = self._target.name, self._keeper.name
        if found.holds:
            return f"{keeper} is well again: {target} may be wiped" if intact else f"{keeper} is well again"
        if intact:
            return f"do NOT wipe {target} now: {keeper}, which is to stand in for it, is not well ({found.text})"
        return f"{keeper}, which stands in for {target}, is not well ({found.text}): look after it, {target} can wait"

    def _answers(self) -> Evidence:
        found = self._tools.runner([self._tools.inventory.limit_pattern(self._keeper)]).facts([LOCK])
        why = next((error.summary for error in found.errors), f"{self._keeper.name} does not answer")
        return Evidence(found.has(self._keeper.name, LOCK), why)
