"""cluster: serve as before."""

from __future__ import annotations

from gb10.controller.cluster.serving import load_seconds
from gb10.controller.rebuild.serving import CLUSTER, SOLO
from gb10.controller.rebuild.snapshot import Served
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target, TargetStep


class Serve(TargetStep):
    """Switch back to the old mode of serving."""

    name = CLUSTER
    title = "Serve as before"
    kind = "load"

    def __init__(self, target: Target, before: Served) -> None:
        super().__init__(target)
        self._mode = before.mode
        self._where = before.node if before.mode == SOLO else None

    @property
    def patience_seconds(self) -> float:
        return float(load_seconds(self.target.inventory, SOLO if self._mode == SOLO else CLUSTER))

    def plan(self) -> str:
        return f"serve as before: {self._mode}{f' on {self._where}' if self._where else ''}"

    def verify(self) -> Evidence:
        return self.target.serving.look(self._mode, self._where)

    def run(self) -> None:
        self.target.serving.switch(self._mode, self._where)
