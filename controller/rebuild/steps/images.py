"""images: copy the node's images back over the rails."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.copies import Copies, in_place
from gb10.controller.rebuild.memory import missing_images
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.words import count


class Images(Step):
    """Copy the images that the node had back from the keeper."""

    name = "images"
    kind = "copy"

    def __init__(self, roles: Roles, notebook: Notebook, sight: Sight, copies: Copies) -> None:
        self._target, self._keeper = roles.target, roles.keeper
        self.title = f"Copy images back to {self._target.name}"
        self._notebook = notebook
        self._sight = sight
        self._copies = copies

    def plan(self) -> str:
        return f"{count(self._notebook.memory.images, 'image')} from {self._keeper.name}"

    def verify(self) -> Evidence:
        wanted = self._notebook.memory.images
        return in_place(self._missing(), wanted, "image", f"in the engine of {self._target.name}")

    def run(self) -> None:
        self._copies.images(self._keeper, self._target, self._missing())

    def _missing(self) -> list[str]:
        return missing_images(self._notebook.memory.images, self._sight.engine_images(self._target))
