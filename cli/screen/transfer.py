"""How a copy between nodes is shown: its plan, how far it is, and its proof."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gb10.cli.screen import console
from gb10.controller.run.messages import Event, Logged, OperationStarted, Reported, StageStarted
from gb10.facts.reading.copy import CopyProof
from gb10.operations.copying.reports import (
    CopyMoved,
    CopyPlanned,
    CopyProven,
    CopySent,
    ImageMoved,
    ImageProven,
    ImagesPlanned,
    rail_rates,
)
from gb10.operations.kit.reports import Foreseen

PLAIN_SECONDS = 10.0  # between lines, where there is no terminal


class Transfer:
    """Follows the copies of one run, and keeps what it reports."""

    def __init__(self, progress: Progress | None, quiet: bool, verbosity: int) -> None:
        self.found = Found()
        self._bars = Bars(progress) if progress else None
        self._quiet = quiet
        self._verbosity = verbosity
        self._told: set[str] = set()
        self._last_line = 0.0

    def hear(self, event: Event) -> None:
        """Take in the next event of the run."""
        match event:
            case Reported(host, report):
                self._show(host, report)
            case Logged(text, str()) if self._verbosity:
                self._print(f"  {text}")
            case StageStarted("prepare"):
                self._print("Look at the nodes", dim=True)
            case OperationStarted(name):
                self._print(name, dim=True)

    def _show(self, host: str, report: Any) -> None:
        self.found.keep(report)
        if self._bars:
            self._bars.move(host, report)
        match report:
            case Foreseen():
                pass
            case CopyMoved() | ImageMoved():
                self._now_and_then(host, report)
            case _ if report.line and report.line not in self._told and not self._verbosity:
                self._told.add(report.line)
                self._print(f"  {report.line}")

    def _now_and_then(self, host: str, moved: CopyMoved | ImageMoved) -> None:
        """Say in a line how far something is, where there is no bar."""
        if self._bars or not moved.line or time.monotonic() - self._last_line <= PLAIN_SECONDS:
            return
        self._last_line = time.monotonic()
        self._print(f"  {f'{host} ' if isinstance(moved, ImageMoved) else ''}{moved.line}")

    def _print(self, text: str, dim: bool = False) -> None:
        if self._quiet:
            return
        if self._bars:
            self._bars.print(text, "dim" if dim else None)
        elif not dim:
            print(text, file=console.stderr().file, flush=True)


@dataclass
class Found:
    """What the copies of a run reported."""

    plans: list[CopyPlanned | ImagesPlanned] = field(default_factory=list)
    results: list[CopySent] = field(default_factory=list)
    proofs: list[CopyProof] = field(default_factory=list)
    images: list[ImageProven] = field(default_factory=list)

    def keep(self, report: Any) -> None:
        """Keep a report that counts in the end."""
        match report:
            case CopyPlanned() | ImagesPlanned():
                self.plans.append(report)
            case CopySent():
                self.results.append(report)
            case CopyProven(proof):
                self.proofs.append(proof)
            case ImageProven():
                self.images.append(report)

    def to_json(self) -> dict[str, Any]:
        return {entry.name: [found.to_json() for found in getattr(self, entry.name)] for entry in fields(self)}


class Bars:
    """The bars of a terminal: one of the copy, one of the image that is saved or loaded."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._copy: TaskID | None = None
        self._image: tuple[str, TaskID] | None = None

    def print(self, text: str, style: str | None) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, style=style, markup=False, highlight=False)

    def move(self, host: str, report: Any) -> None:
        """Show what a report says."""
        match report:
            case CopyPlanned() | ImagesPlanned():
                where = f"{report.source} → {report.target}"
                self._copy = self._progress.add_task(where, total=report.bytes, rails="")
            case CopyMoved(sent, _, seconds, rails) if self._copy is not None:
                self._progress.update(self._copy, completed=sent, rails=rail_rates(rails, seconds))
            case CopySent() if self._copy is not None:
                self._progress.remove_task(self._copy)
                self._copy = None
            case ImageMoved(verb, done, total):
                self._progress.update(self._image_bar(f"{host} {verb}", total), completed=done)

    def _image_bar(self, what: str, total: int) -> TaskID:
        if self._image and self._image[0] != what:
            self._progress.remove_task(self._image[1])
            self._image = None
        if self._image is None:
            self._image = (what, self._progress.add_task(what, total=total, rails=""))
        return self._image[1]


@contextmanager
def transfer(*, quiet: bool, verbosity: int) -> Iterator[Transfer]:
    """Show copies: a bar on a terminal, lines elsewhere and under NO_COLOR, nothing if `quiet`."""
    terminal = console.stderr()
    if quiet or not terminal.is_terminal or terminal.no_color:
        yield Transfer(None, quiet, verbosity)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rails]}", style="dim"),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        yield Transfer(progress, quiet, verbosity)
