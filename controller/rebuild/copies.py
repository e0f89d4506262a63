"""Copies of models and images from node to node, and what is still missing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sized
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.reporting import Report, said_once
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Work
from gb10.controller.rebuild.words import count, some
from gb10.controller.waiting import wait_until

BUSY_SECONDS = 90.0  # until a copy has ended whose run was killed


class Patience:
    """Repeats work that fails for a reason that passes by itself, and reports each reason."""

    def __init__(self, node: str, report: Report, poll_seconds: float) -> None:
        self._node = node
        self._report = report
        self._poll_seconds = poll_seconds

    def __call__(self, work: Callable[[], object], passing: tuple[str, ...], seconds: float) -> None:
        """Do the work, again and again for so many seconds while it fails with these codes. Raise its last error."""
        say = said_once(lambda text: self._report("waiting", node=self._node, text=text))
        wait_until(
            work,
            lambda done: True,
            seconds=seconds,
            poll_seconds=self._poll_seconds,
            passing=passing,
            between=lambda error: say(error.summary) if isinstance(error, Gb10Error) else None,
        )


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
