"""backup: back the node up, and prove it by restoring it on trial in each place."""

from __future__ import annotations

from gb10.controller.rebuild.backups import Keeping
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.step import Evidence


class Backup(Safeguard):
    """Back the node up as it is in the end."""

    name = "backup"
    proves = "backup"

    def __init__(self, keeping: Keeping) -> None:
        self.title = f"Back {keeping.name} up, and prove it"
        self._keeping = keeping

    def plan(self) -> str:
        name = self._keeping.name
        return f"back {name} up to the controller and other nodes, and prove it by restoring it in each place"

    def verify(self) -> Evidence:
        return self._keeping.look()

    def run(self) -> None:
        self._keeping.make()

    def demand(self) -> Demand:
        return self._keeping.demand()
