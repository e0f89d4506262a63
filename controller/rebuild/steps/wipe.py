"""wipe: ask a person to reinstall the node, and wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.arrival import OnSeen
from gb10.controller.rebuild.box import Box, await_boxes
from gb10.controller.rebuild.step import Evidence, Step


class Wipe(Step):
    """Have nodes reinstalled, in any order, and wait until they are back. `meanwhile` is called between two looks."""

    name = "wipe"
    kind = "human"
    destroys = True

    def __init__(
        self, boxes: Sequence[Box], whom: str, sight: Sight, poll_seconds: float, meanwhile: OnSeen | None = None
    ) -> None:
        self.title = f"Wait for {whom} to be wiped"
        self._boxes = boxes
        self._whom = whom
        self._sight = sight
        self._poll_seconds = poll_seconds
        self._meanwhile = meanwhile

    def plan(self) -> str:
        return f"ask you to reinstall {self._whom}, and wait for the new installation, however long that takes"

    def verify(self) -> Evidence:
        if left := self._left():
            return Evidence(False, f"still to come: {', '.join(box.name for box in left)}")
        keys = ", ".join(str(box.history.new_host_key) for box in self._boxes)
        return Evidence(True, f"another installation on the same machine, host key {keys}")

    def run(self) -> None:
        left = self._left()
        for box in left:
            box.ask(again=box.condition() != "intact")
        await_boxes(left, self._poll_seconds, self._meanwhile)
        self._sight.forget()

    def _left(self) -> list[Box]:
        return [box for box in self._boxes if not box.history.returned]
