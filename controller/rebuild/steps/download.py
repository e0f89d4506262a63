"""download, of a full wipe: download the models that were lost."""

from __future__ import annotations

from gb10.controller.rebuild.copies import Copies
from gb10.controller.rebuild.losses import LostModels
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Work


class Download(Step):
    """Download lost models once from the Hub, and copy them from node to node: the rails are faster."""

    name = "download"
    title = "Download models"
    kind = "copy"

    def __init__(self, lost: LostModels, work: Work, copies: Copies) -> None:
        self._lost = lost
        self._work = work
        self._copies = copies

    def plan(self) -> str:
        return ", ".join(self._lost.names())

    def verify(self) -> Evidence:
        names = self._lost.names()
        return Evidence(not names, f"still to be downloaded: {', '.join(names)}" if names else "all models are there")

    def run(self) -> None:
        (source, _), *others = self._lost.by_host()
        self._work("download_models", self.title, (source.name,), names=self._lost.names())
        for host, names in others:
            self._copies.models(source, host, names)
