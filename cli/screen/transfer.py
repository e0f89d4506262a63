"""Show a copy between nodes: its plan, its progress and its proof."""

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
from gb10.facts.reading.reports import Measured
from gb10.operations.copying.reports import (
    CopyMoved,
    CopyPlanned,
    CopyProven,
    CopySent,
    ImageProven,
    ImagesPlanned,
    rail_rates,
)
from gb10.operations.kit.reports import Foreseen

LINE_SECONDS = 10.0  # between two lines of progress without a terminal


class Bars:
    """Progress bars of a terminal, each with a key; without a terminal there are none."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, tuple[str, TaskID]] = {}  # by key: the text of the bar, and its task

    @property
    def drawn(self) -> bool:
        return self._progress is not None

    def begin(self, key: str, text: str, total: int | None) -> None:
        """Draw a bar. It replaces the bar of this key, unless that has the same text."""
        if self._progress and self._tasks.get(key, ("",))[0] != text:
            self.end(key)
            self._tasks[key] = (text, self._progress.add_task(text, total=total, rails=""))

    def move(self, key: str, done: int, rails: str = "") -> None:
        if self._progress and key in self._tasks:
            self._progress.update(self._tasks[key][1], completed=done, rails=rails)

    def end(self, key: str) -> None:
        if self._progress and key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key)[1])


@contextmanager
def drawn_bars() -> Iterator[Bars]:
    """Draw progress bars on a terminal while the context lasts."""
    if not console.is_live():
        yield Bars(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rails]}", style="dim"),
    )
    with Progress(*columns, console=console.stderr, transient=True) as progress:
        yield Bars(progress)


@dataclass
class Found:
    """What the copies of a run reported."""

    plans: list[CopyPlanned | ImagesPlanned] = field(default_factory=list)
    results: list[CopySent] = field(default_factory=list)
    proofs: list[CopyProof] = field(default_factory=list)
    images: list[ImageProven] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {entry.name: [found.to_json() for found in getattr(self, entry.name)] for entry in fields(self)}


class TransferView:
    """Show the copies of a run, and keep what they report."""

    def __init__(self, bars: Bars, verbosity: int) -> None:
        self.found = Found()
        self._bars = bars
        self._verbosity = verbosity
        self._printed: set[str] = set()
        self._last_line = 0.0

    def hear(self, event: Event) -> None:
        match event:
            case Reported(host, report):
                self._keep(report)
                self._draw(host, report)
                self._print(host, report)
            case Logged(text, str()) if self._verbosity:
                console.print_line(f"  {text}")
            case StageStarted("prepare") if self._bars.drawn:
                console.print_note("Look at the nodes")
            case OperationStarted(name) if self._bars.drawn:
                console.print_note(name)

    def _keep(self, report: Any) -> None:
        match report:
            case CopyPlanned() | ImagesPlanned():
                self.found.plans.append(report)
            case CopySent():
                self.found.results.append(report)
            case CopyProven(proof):
                self.found.proofs.append(proof)
            case ImageProven():
                self.found.images.append(report)

    def _draw(self, host: str, report: Any) -> None:
        match report:
            case CopyPlanned() | ImagesPlanned():
                self._bars.end("copy")
                self._bars.begin("copy", f"{report.source} → {report.target}", report.bytes)
            case CopyMoved(sent, _, seconds, rails):
                self._bars.move("copy", sent, rail_rates(rails, seconds))
            case CopySent():
                self._bars.end("copy")
            case Measured(verb, done, total):
                self._bars.begin(host, f"{host} {verb}", total)
                self._bars.move(host, done)

    def _print(self, host: str, report: Any) -> None:
        match report:
            case Foreseen():
                pass
            case CopyMoved() | Measured():
                if report.line and not self._bars.drawn and time.monotonic() - self._last_line > LINE_SECONDS:
                    self._last_line = time.monotonic()
                    console.print_line(f"  {'' if isinstance(report, CopyMoved) else f'{host} '}{report.line}")
            case _ if report.line and report.line not in self._printed and not self._verbosity:
                self._printed.add(report.line)
                console.print_line(f"  {report.line}")


@contextmanager
def transfer(verbosity: int) -> Iterator[TransferView]:
    """Show copies: with bars on a terminal, as lines elsewhere and under NO_COLOR."""
    with drawn_bars() as bars:
        yield TransferView(bars, verbosity)
