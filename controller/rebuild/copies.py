"""Copies of models and images from node to node, and what is still missing."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sized
from typing import Any

from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.patience import Patience
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Work
from gb10.controller.rebuild.words import count, some

BUSY_SECONDS = 90.0  # until a copy has ended whose run was killed


class Copies:
    """Copies models and images between nodes. Waits for a copy that a killed run has left behind."""

    def __init__(self, work: Work, patience: Patience) -> None:
        self._work = work
        self._patience = patience

    def models(self, source: InventoryHost, target: InventoryHost, names: list[str]) -> None:
        """Copy models by name. Raise what stops it."""
        self._copy("models", f"Copy {count(names, 'model')}", target, names=names, source=source.name)

    def images(self, source: InventoryHost, target: InventoryHost, tags: list[str]) -> None:
        """Copy images by tag. Raise what stops it."""
        self._copy("sync_images", f"Copy {count(tags, 'image')}", target, tags=tags, source=source.name)

    def _copy(self, deploy: str, title: str, target: InventoryHost, **what: Any) -> None:
        to = (target.name,)
        copy = functools.partial(self._work, deploy, f"{title} to {target.name}", to, copies=True, **what)
        self._patience(copy, ("COPY_BUSY",), BUSY_SECONDS)


def in_place(missing: list[str], wanted: Sized, what: str, where: str) -> Evidence:
    """Return the evidence that nothing of what is wanted is missing: "2 models whole on spark-1"."""
    if missing:
        return Evidence(False, f"not {where}: {some(missing)}")
    return Evidence(True, f"{count(wanted, what)} {where}")


def copying(missing: list[str], wanted: Mapping[str, Any], source: InventoryHost, target: InventoryHost) -> str:
    """Say what is still to be copied."""
    if not missing:
        return f"nothing: {target.name} has all {len(wanted)}"
    return f"{some(missing)} from {source.name} to {target.name}"
