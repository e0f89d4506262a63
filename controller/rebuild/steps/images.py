"""images: copy the node's images back over the rails."""

from __future__ import annotations

from gb10.controller.rebuild.snapshot import completeness, missing_images
from gb10.controller.rebuild.step import Evidence, count
from gb10.controller.rebuild.target import TargetStep


class Images(TargetStep):
    """Copy the images that the node had back from the keeper."""

    name = "images"
    title = "Copy images back to {target.name}"
    kind = "copy"

    def plan(self) -> str:
        return f"{count(self.target.snapshot.images, 'image')} from {self.target.keeper.name}"

    def verify(self) -> Evidence:
        wanted = self.target.snapshot.images
        return completeness(self._missing(), wanted, "image", f"in the engine of {self.target.name}")

    def run(self) -> None:
        self.target.copy_images(self.target.keeper, self.target.host, self._missing())

    def _missing(self) -> list[str]:
        return missing_images(self.target.snapshot.images, self.target.view.engine_images(self.target.host))
