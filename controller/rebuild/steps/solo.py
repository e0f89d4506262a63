"""solo: serve the smaller model on the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.serving import load_seconds
from gb10.controller.rebuild.gate import Safeguard
from gb10.controller.rebuild.serving import SOLO
from gb10.controller.rebuild.step import Evidence


class Solo(Safeguard):
    """Serve on the keeper alone. The step solo-watched proves that it does so for a while."""

    name = SOLO
    title = "Serve on {target.keeper.name} alone"
    kind = "load"
    proves = "solo"

    @property
    def patience_seconds(self) -> float:
        return float(load_seconds(self.target.inventory, SOLO))

    def plan(self) -> str:
        return f"stop what is served on all nodes, and serve the smaller model on {self.target.keeper.name} alone"

    def verify(self) -> Evidence:
        return self.target.serving.look(SOLO, self.target.keeper.name)

    def run(self) -> None:
        self.target.serving.switch(SOLO, self.target.keeper.name)

    def undo(self) -> str | None:
        snapshot, serving = self.target.history.snapshot, self.target.serving
        before = snapshot.served if snapshot else None
        if before is None or serving.look(before.mode, before.node).holds:
            return None
        serving.switch(before.mode, before.node)
        return f"served as before: {serving.status().summary}"

    def demand(self) -> None:
        return None
