"""wipe: ask a person to reinstall the node, and wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Tools
from gb10.controller.rebuild.wipe_watch import Machine, OnVerdict, wait_for_machines


class Wipe(Step):
    """Have machines reinstalled, in any order, and wait until they are back. `between` is called between two looks."""

    name = "wipe"
    kind = "human"
    destroys = True

    def __init__(self, machines: Sequence[Machine], whom: str, tools: Tools, between: OnVerdict | None = None) -> None:
        self.title = f"Wait for {whom} to be wiped"
        self._machines = machines
        self._whom = whom
        self._tools = tools
        self._between = between

    def plan(self) -> str:
        return f"ask you to reinstall {self._whom}, and wait for the new installation, however long that takes"

    def verify(self) -> Evidence:
        if left := self._left():
            return Evidence(False, f"still to come: {', '.join(machine.name for machine in left)}")
        keys = ", ".join(str(machine.history.new_host_key) for machine in self._machines)
        return Evidence(True, f"another installation on the same machine, host key {keys}")

    def run(self) -> None:
        left = self._left()
        for machine in left:
            machine.ask(again=machine.condition() != "intact")
        wait_for_machines(left, self._tools.poll_seconds, self._between)
        self._tools.view.forget()

    def _left(self) -> list[Machine]:
        return [machine for machine in self._machines if not machine.history.returned]
