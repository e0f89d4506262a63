"""save-images: save the node's images onto the data disk of the node that stays."""

from __future__ import annotations

from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.snapshot import completeness, missing_images
from gb10.controller.rebuild.step import Evidence


class SaveImages(Safeguard):
    """Save the images that the keeper has only in its engine."""

    name = "save-images"
    title = "Save images on {target.keeper.name}"
    kind = "copy"
    proves = "saved-images"

    def plan(self) -> str:
        tags = self._missing()
        return f"save {', '.join(tags)} on {self.target.keeper.name}" if tags else "nothing: all is saved"

    def verify(self) -> Evidence:
        where = f"saved on {self.target.keeper.name}"
        return completeness(self._missing(), self.target.now().images, "image", where)

    def run(self) -> None:
        self.target.deploys.run("save_images", "Save images", (self.target.keeper.name,), tags=self._missing())

    def demand(self) -> Demand | None:
        if not self.target.now().images:
            return None
        resume = self.target.tools.person.command("rebuild resume")
        return Demand.of(self.proves, self.verify(), self.target.view.age_seconds, resume)

    def _missing(self) -> list[str]:
        return missing_images(self.target.now().images, self.target.view.saved_images(self.target.keeper))
