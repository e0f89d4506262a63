"""sync-images: copy the node's images into the engine of the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.copies import Copies, copying, in_place
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.memory import missing_images
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.serving import Serving
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person
from gb10.programs.images.contents import familiar


class SyncImages(Safeguard):
    """Copy the images that the keeper's engine lacks."""

    name = "sync-images"
    kind = "copy"
    proves = "images"

    def __init__(
        self, roles: Roles, notebook: Notebook, sight: Sight, serving: Serving, copies: Copies, person: Person
    ) -> None:
        self._source, self._keeper = roles.target, roles.keeper
        self.title = f"Copy images to {self._keeper.name}"
        self._notebook = notebook
        self._sight = sight
        self._serving = serving
        self._copies = copies
        self._person = person

    def plan(self) -> str:
        return copying(self._missing(), self._notebook.now().images, self._source, self._keeper)

    def verify(self) -> Evidence:
        lacking = [*self._missing(), *self._nowhere()]
        return in_place(lacking, self._notebook.now().images, "image", f"in the engine of {self._keeper.name}")

    def run(self) -> None:
        if tags := self._missing():  # an image that neither node has is for a person to pull
            self._copies.images(self._source, self._keeper, tags)

    def demand(self) -> Demand | None:
        if not (self._notebook.now().images or self._nowhere()):
            return None
        return Demand.of(self.proves, self.verify(), self._sight.age_seconds, self._remedy())

    def _missing(self) -> list[str]:
        return missing_images(self._notebook.now().images, self._sight.engine_images(self._keeper))

    def _nowhere(self) -> list[str]:
        """Images that a mode of serving needs, and neither node's engine has."""
        there, now = self._sight.engine_images(self._keeper), self._notebook.now()
        wanted = map(familiar, self._serving.needs()[1] if self._serving.is_served(now) else ())
        return [tag for tag in wanted if tag not in now.images and tag not in there]

    def _remedy(self) -> str:
        """What is on neither node cannot be copied: it has to be pulled."""
        pulls = [f"{self._keeper.ssh} sudo docker pull {tag}" for tag in self._nowhere()]
        return " && ".join(pulls) or self._person.command("sync images", self._source.name, self._keeper.name)
