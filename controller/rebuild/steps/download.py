"""download, of a full wipe: download the models that were lost."""

from __future__ import annotations

from collections.abc import Callable

from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target, TargetStep


class Download(TargetStep):
    """Download lost models once from the Hub, and copy them from node to node: the rails are faster.

    `lost` returns the models that each host lacks; only hosts that lack one.
    """

    name = "download"
    title = "Download models"
    kind = "copy"

    def __init__(self, target: Target, lost: Callable[[], list[tuple[InventoryHost, list[str]]]]) -> None:
        super().__init__(target)
        self._lost = lost

    def plan(self) -> str:
        return ", ".join(self._names())

    def verify(self) -> Evidence:
        names = self._names()
        return Evidence(not names, f"still to be downloaded: {', '.join(names)}" if names else "all models are there")

    def run(self) -> None:
        (source, _), *others = self._lost()
        self.target.deploys.run("download_models", self.title, (source.name,), names=self._names())
        for host, names in others:
            self.target.copy_models(source, host, names)

    def _names(self) -> list[str]:
        return sorted({name for _, names in self._lost() for name in names})
