"""preflight: check the nodes, and record what one of them is and has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gb10.controller.rebuild.snapshot import Snapshot
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target, TargetStep

Check = Callable[[Target], None]


class Preflight(TargetStep):
    """Check the nodes, and record one of them.

    + checks: each raises an error if the work must not be begun
    + whom: the nodes that are checked, in words
    + describe: describes what is recorded
    """

    name = "preflight"

    def __init__(
        self, target: Target, checks: Sequence[Check], *, whom: str, describe: Callable[[Snapshot], str]
    ) -> None:
        self.title = f"Look at {whom}"
        super().__init__(target)
        self._checks = checks
        self._whom = whom
        self._describe = describe

    def plan(self) -> str:
        return f"check that {self._whom} are well, and write down what {self.target.name} is and has"

    def verify(self) -> Evidence:
        snapshot = self.target.history.snapshot
        if snapshot is None:
            return Evidence(False, "nothing is recorded yet")
        return Evidence(True, self._describe(snapshot))

    def run(self) -> None:
        for check in self._checks:
            check(self.target)
        self.target.record()
