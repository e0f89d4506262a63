"""cluster: serve as before."""

from __future__ import annotations

from gb10.controller.cluster.serving import load_seconds
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.memory import Served
from gb10.controller.rebuild.serving import CLUSTER, SOLO, Serving
from gb10.controller.rebuild.step import Evidence, Step


class Serve(Step):
    """Switch back to the mode of before."""

    name = CLUSTER
    title = "Serve as before"
    kind = "load"

    def __init__(self, inventory: Inventory, before: Served, serving: Serving) -> None:
        self._inventory = inventory
        self._mode = before.mode
        self._where = before.node if before.mode == SOLO else None
        self._serving = serving

    @property
    def patience_seconds(self) -> float:
        return float(load_seconds(self._inventory, SOLO if self._mode == SOLO else CLUSTER))

    def plan(self) -> str:
        return f"serve as before: {self._mode}{f' on {self._where}' if self._where else ''}"

    def verify(self) -> Evidence:
        return self._serving.look(self._mode, self._where)

    def run(self) -> None:
        self._serving.switch(self._mode, self._where)
