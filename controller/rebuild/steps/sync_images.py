"""sync-images: copy the node's images into the engine of the node that stays."""

from __future__ import annotations

from gb10.controller.cluster.serving import needs
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.snapshot import completeness, copy_plan, missing_images
from gb10.controller.rebuild.step import Evidence
from gb10.programs.images.contents import familiar


class SyncImages(Safeguard):
    """Copy the images that the keeper's engine lacks."""

    name = "sync-images"
    title = "Copy images to {target.keeper.name}"
    kind = "copy"
    proves = "images"

    def plan(self) -> str:
        return copy_plan(self._missing(), self.target.now().images, self.target.host, self.target.keeper)

    def verify(self) -> Evidence:
        missing = [*self._missing(), *self._on_no_node()]
        where = f"in the engine of {self.target.keeper.name}"
        return completeness(missing, self.target.now().images, "image", where)

    def run(self) -> None:
        if tags := self._missing():  # an image that neither node has is for a person to pull
            self.target.copy_images(self.target.host, self.target.keeper, tags)

    def demand(self) -> Demand | None:
        on_no_node, keeper = self._on_no_node(), self.target.keeper
        if not (self.target.now().images or on_no_node):
            return None
        pulls = [f"{keeper.ssh} sudo docker pull {tag}" for tag in on_no_node]
        copy = self.target.tools.person.command("sync images", self.target.name, keeper.name)
        return Demand.of(self.proves, self.verify(), self.target.view.age_seconds, " && ".join(pulls) or copy)

    def _missing(self) -> list[str]:
        return missing_images(self.target.now().images, self.target.view.engine_images(self.target.keeper))

    def _on_no_node(self) -> list[str]:
        """Return the images that a mode of serving needs and neither node's engine has."""
        there, now = self.target.view.engine_images(self.target.keeper), self.target.now()
        _, wanted = needs(self.target.inventory) if self.target.serving.has_to_go_on(now) else ((), ())
        return [tag for tag in map(familiar, wanted) if tag not in now.images and tag not in there]
