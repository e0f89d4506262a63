"""solo: serve the smaller model on the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.serving import load_seconds
from gb10.controller.rebuild.gate import Safeguard
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.serving import SOLO, Serving
from gb10.controller.rebuild.step import Evidence


class Solo(Safeguard):
    """Serve on the keeper alone. The proof is that it does so for a while: see solo-watched."""

    name = SOLO
    kind = "load"
    proves = "solo"

    def __init__(self, roles: Roles, history: NodeHistory, serving: Serving) -> None:
        self._inventory, self._keeper = roles.inventory, roles.keeper.name
        self.title = f"Serve on {self._keeper} alone"
        self._history = history
        self._serving = serving

    @property
    def patience_seconds(self) -> float:
        return float(load_seconds(self._inventory, SOLO))

    def plan(self) -> str:
        return f"stop what is served on all nodes, and serve the smaller model on {self._keeper} alone"

    def verify(self) -> Evidence:
        return self._serving.look(SOLO, self._keeper)

    def run(self) -> None:
        self._serving.switch(SOLO, self._keeper)

    def undo(self) -> str | None:
        before = self._history.memory.served if self._history.memory else None
        if before is None or self._serving.look(before.mode, before.node).holds:
            return None
        self._serving.switch(before.mode, before.node)
        return f"served as before: {self._serving.status().summary}"

    def demand(self) -> None:
        return None
