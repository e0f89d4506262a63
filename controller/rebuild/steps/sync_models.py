"""sync-models: copy the node's models to the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.serving import needs
from gb10.controller.cluster.view import download_command
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.snapshot import completeness, copy_plan, missing_models
from gb10.controller.rebuild.step import Evidence


class SyncModels(Safeguard):
    """Copy the models that the keeper lacks."""

    name = "sync-models"
    title = "Copy models to {target.keeper.name}"
    kind = "copy"
    proves = "models"

    def plan(self) -> str:
        return copy_plan(self._missing(), self.target.now().models, self.target.host, self.target.keeper)

    def verify(self) -> Evidence:
        missing = [*self._missing(), *self._on_no_node()]
        return completeness(missing, self.target.now().models, "model", f"whole on {self.target.keeper.name}")

    def run(self) -> None:
        self.target.copy_models(self.target.host, self.target.keeper, self._missing())

    def demand(self) -> Demand | None:
        on_no_node, now, keeper = self._on_no_node(), self.target.now(), self.target.keeper
        if not (now.models or now.lost_models or on_no_node):
            return None
        downloads = [download_command(keeper, name) for name in on_no_node]
        copy = self.target.tools.person.command("sync models", self.target.name, keeper.name)
        return Demand.of(self.proves, self.verify(), self.target.view.age_seconds, " && ".join(downloads) or copy)

    def _missing(self) -> list[str]:
        return missing_models(self.target.now().models, self.target.view.repositories(self.target.keeper))

    def _on_no_node(self) -> list[str]:
        """Return the models that a mode of serving needs and neither node has whole."""
        there, now = self.target.view.repositories(self.target.keeper), self.target.now()
        wanted, _ = needs(self.target.inventory) if self.target.serving.has_to_go_on(now) else ((), ())
        return [name for name in wanted if name not in now.models and not (name in there and there[name].sound)]
