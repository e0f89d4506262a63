"""preflight: look at the nodes, and write down what one of them is and has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.memory import Memory
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.step import Evidence, Step


class Preflight(Step):
    """Check the nodes, and write one of them down.

    + checks: each raises what keeps the work from being begun
    + whom: the nodes that are checked, in words
    + describe: says what is written down
    """

    name = "preflight"

    def __init__(
        self,
        history: NodeHistory,
        notebook: Notebook,
        checks: Sequence[Callable[[], None]],
        *,
        whom: str,
        describe: Callable[[Memory], str],
    ) -> None:
        self.title = f"Look at {whom}"
        self._history = history
        self._notebook = notebook
        self._checks = checks
        self._whom = whom
        self._describe = describe

    def plan(self) -> str:
        return f"check that {self._whom} are well, and write down what {self._history.node} is and has"

    def verify(self) -> Evidence:
        memory = self._history.memory
        if memory is None:
            return Evidence(False, "nothing is written down yet")
        return Evidence(True, self._describe(memory))

    def run(self) -> None:
        for check in self._checks:
            check()
        self._notebook.begin()
