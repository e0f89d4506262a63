"""models: copy the node's models back over the rails."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.copies import Copies, in_place
from gb10.controller.rebuild.memory import missing_models
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.words import count
from gb10.operations.copying.plan import human


class Models(Step):
    """Copy the models that the node had back from the keeper."""

    name = "models"
    kind = "copy"

    def __init__(self, roles: Roles, notebook: Notebook, sight: Sight, copies: Copies) -> None:
        self._target, self._keeper = roles.target, roles.keeper
        self.title = f"Copy models back to {self._target.name}"
        self._notebook = notebook
        self._sight = sight
        self._copies = copies

    def plan(self) -> str:
        memory = self._notebook.memory
        return f"{count(memory.models, 'model')} ({human(memory.bytes)}) from {self._keeper.name}"

    def verify(self) -> Evidence:
        return in_place(self._missing(), self._notebook.memory.models, "model", f"whole on {self._target.name}")

    def run(self) -> None:
        self._copies.models(self._keeper, self._target, self._missing())

    def _missing(self) -> list[str]:
        return missing_models(self._notebook.memory.models, self._sight.repositories(self._target))
