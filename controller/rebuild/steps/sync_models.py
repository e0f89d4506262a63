"""sync-models: copy the node's models to the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight, download_command
from gb10.controller.rebuild.copies import Copies, copying, in_place
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.memory import missing_models
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.serving import Serving
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person


class SyncModels(Safeguard):
    """Copy the models that the keeper lacks."""

    name = "sync-models"
    kind = "copy"
    proves = "models"

    def __init__(
        self, roles: Roles, notebook: Notebook, sight: Sight, serving: Serving, copies: Copies, person: Person
    ) -> None:
        self._source, self._keeper = roles.target, roles.keeper
        self.title = f"Copy models to {self._keeper.name}"
        self._notebook = notebook
        self._sight = sight
        self._serving = serving
        self._copies = copies
        self._person = person

    def plan(self) -> str:
        return copying(self._missing(), self._notebook.now().models, self._source, self._keeper)

    def verify(self) -> Evidence:
        lacking = [*self._missing(), *self._nowhere()]
        return in_place(lacking, self._notebook.now().models, "model", f"whole on {self._keeper.name}")

    def run(self) -> None:
        self._copies.models(self._source, self._keeper, self._missing())

    def demand(self) -> Demand | None:
        now = self._notebook.now()
        if not (now.models or now.lost_models or self._nowhere()):
            return None
        return Demand.of(self.proves, self.verify(), self._sight.age_seconds, self._remedy())

    def _missing(self) -> list[str]:
        return missing_models(self._notebook.now().models, self._sight.repositories(self._keeper))

    def _nowhere(self) -> list[str]:
        """Models that a mode of serving needs, and neither node has whole."""
        there, now = self._sight.repositories(self._keeper), self._notebook.now()
        wanted = self._serving.needs()[0] if self._serving.is_served(now) else ()
        return [name for name in wanted if name not in now.models and not (name in there and there[name].sound)]

    def _remedy(self) -> str:
        """What is on neither node cannot be copied: it has to be downloaded."""
        downloads = [download_command(self._keeper, name) for name in self._nowhere()]
        return " && ".join(downloads) or self._person.command("sync models", self._source.name, self._keeper.name)
