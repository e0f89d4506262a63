"""models: copy the node's models back over the rails."""

from __future__ import annotations

from gb10.controller.rebuild.snapshot import completeness, missing_models
from gb10.controller.rebuild.step import Evidence, count
from gb10.controller.rebuild.target import TargetStep
from gb10.operations.copying.plan import human


class Models(TargetStep):
    """Copy the models that the node had back from the keeper."""

    name = "models"
    title = "Copy models back to {target.name}"
    kind = "copy"

    def plan(self) -> str:
        snapshot = self.target.snapshot
        return f"{count(snapshot.models, 'model')} ({human(snapshot.model_bytes)}) from {self.target.keeper.name}"

    def verify(self) -> Evidence:
        return completeness(self._missing(), self.target.snapshot.models, "model", f"whole on {self.target.name}")

    def run(self) -> None:
        self.target.copy_models(self.target.keeper, self.target.host, self._missing())

    def _missing(self) -> list[str]:
        return missing_models(self.target.snapshot.models, self.target.view.repositories(self.target.host))
