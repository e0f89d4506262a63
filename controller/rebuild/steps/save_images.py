"""save-images: save the node's images onto the data disk of the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.copies import in_place
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.memory import missing_images
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person, Work


class SaveImages(Safeguard):
    """Save the images that the keeper has only in its engine."""

    name = "save-images"
    kind = "copy"
    proves = "saved-images"

    def __init__(self, roles: Roles, notebook: Notebook, sight: Sight, work: Work, person: Person) -> None:
        self._keeper = roles.keeper
        self.title = f"Save images on {self._keeper.name}"
        self._notebook = notebook
        self._sight = sight
        self._work = work
        self._person = person

    def plan(self) -> str:
        tags = self._missing()
        return f"save {', '.join(tags)} on {self._keeper.name}" if tags else "nothing: all is saved"

    def verify(self) -> Evidence:
        return in_place(self._missing(), self._notebook.now().images, "image", f"saved on {self._keeper.name}")

    def run(self) -> None:
        self._work("save_images", "Save images", (self._keeper.name,), tags=self._missing())

    def demand(self) -> Demand | None:
        if not self._notebook.now().images:
            return None
        resume = self._person.command("rebuild resume")
        return Demand.of(self.proves, self.verify(), self._sight.age_seconds, resume)

    def _missing(self) -> list[str]:
        return missing_images(self._notebook.now().images, self._sight.saved_images(self._keeper))
