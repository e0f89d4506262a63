"""How a copy between nodes is shown: its plan, how far it is, and its proof."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from gb10.cli.screen import console
from gb10.controller.run.messages import Event, HostOutput, OperationStarted, StageStarted
from gb10.operations.copying.plan import human

_LINE = re.compile(r"^gb10-copy(?:-(?P<kind>plan|proof|result|note))?: (?P<text>.*)$")
_IMAGES = re.compile(r"^gb10-images(?P<kind>-proof)?: (?P<text>.*)$")
_IMAGES_SAID = re.compile(r"(?P<verb>saved|loaded)=(?P<done>\d+) of=(?P<total>\d+) seconds=(?P<seconds>[\d.]+)")
_SAID = re.compile(r"sent=(?P<sent>\d+) of=(?P<total>\d+) seconds=(?P<seconds>[\d.]+) (?P<rails>.*)")
PLAIN_SECONDS = 10.0  # between lines, where there is no terminal


class Transfer:
    """Follows the copies of one run. `plans`, `results` and `proofs` are as the run printed them."""

    def __init__(self, progress: Progress | None, quiet: bool, verbosity: int) -> None:
        self.plans: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.proofs: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []  # proofs of images
        self.notes: list[str] = []
        self._progress = progress
        self._quiet = quiet
        self._verbosity = verbosity
        self._task: Any = None
        self._last_line = 0.0
        self._image_tasks: dict[str, Any] = {}

    def hear(self, event: Event) -> None:
        """Take in the next event of the run."""
        match event:
            case HostOutput(host, text):
                match = _LINE.match(text)
                if images := _IMAGES.match(text):
                    self._heard_of_images(host, images["kind"], images["text"])
                elif match:
                    self._heard(host, match["kind"], match["text"])
                elif not text.startswith(("gb10: ", "would be refused")) and (self._told(text) or self._verbosity):
                    self._print(f"  {text}")
            case StageStarted(stage) if stage == "prepare":
                self._print("Look at the nodes", dim=True)
            case OperationStarted(name):
                self._print(name, dim=True)

    def _told(self, text: str) -> bool:
        """Whether a line is for people: a plan's, a proof's, or a note."""
        if text in self.notes or text.startswith((">>> ", "Loaded fact", "noop: ", "Noop: ")):
            return False
        self.notes.append(text)
        return True

    def _heard(self, host: str, kind: str | None, text: str) -> None:
        match kind:
            case "plan":
                self.plans.append(json.loads(text))
                self._begin(self.plans[-1])
            case "proof":
                self.proofs.append(json.loads(text))
            case "result":
                self.results.append(json.loads(text))
                self._end(self.results[-1])
            case "note":
                self._print(f"  {text}")
            case None:
                self._moved(text)

    def _heard_of_images(self, host: str, kind: str | None, text: str) -> None:
        if kind:
            self.images.append(json.loads(text))
        elif (match := _IMAGES_SAID.match(text)) and float(match["seconds"]):
            done, total = int(match["done"]), int(match["total"])
            self._show_image(f"{host} {match['verb']}", done, total, done / float(match["seconds"]))

    def _show_image(self, what: str, done: int, total: int, rate: float) -> None:
        """Show how far a node is with an image: in a bar of its own, or now and then in a line."""
        if self._progress is not None:
            if what not in self._image_tasks:
                for task in self._image_tasks.values():
                    self._progress.remove_task(task)
                self._image_tasks = {what: self._progress.add_task(what, total=total, rails="")}
            self._progress.update(self._image_tasks[what], completed=done)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self._print(f"  {what} {human(done)} of {human(total)}, {rate / 1e9:.2f} GB/s")

    def _begin(self, plan: dict[str, Any]) -> None:
        if self._progress is not None:
            where = f"{plan['source']} → {plan['target']}"
            self._task = self._progress.add_task(where, total=plan["bytes"], rails="")

    def _moved(self, text: str) -> None:
        match = _SAID.match(text)
        if not match:
            return
        sent, total, seconds = int(match["sent"]), int(match["total"]), float(match["seconds"])
        rails = {name: int(count) for name, _, count in (word.partition("=") for word in match["rails"].split())}
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=sent, rails=_rails(rails, seconds))
        elif time.monotonic() - self._last_line > PLAIN_SECONDS and sent:
            self._last_line = time.monotonic()
            left = (total - sent) * seconds / sent
            self._print(
                f"  {human(sent)} of {human(total)}, {sent / seconds / 1e9 if seconds else 0:.2f} GB/s, "
                f"{left:.0f} s left  {_rails(rails, seconds)}"
            )

    def _end(self, result: dict[str, Any]) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=result["sent"])
            self._progress.stop_task(self._task)
            self._progress.remove_task(self._task)
            self._task = None
        rate = result["sent"] * 8 / result["seconds"] / 1e9 if result["seconds"] else 0.0
        rails = _rails(result["rails"], result["seconds"])
        self._print(f"  sent {human(result['sent'])} in {result['seconds']:.1f} s, {rate:.1f} Gb/s  {rails}")

    def _print(self, text: str, dim: bool = False) -> None:
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.console.print(text, style="dim" if dim else None, markup=False, highlight=False)
        elif not dim:
            print(text, file=console.stderr().file, flush=True)


def _rails(rails: dict[str, int], seconds: float) -> str:
    """Given bytes by rail and seconds, return the rates."""
    if not seconds:
        return ""
    return "  ".join(f"{name} {count * 8 / seconds / 1e9:.1f} Gb/s" for name, count in sorted(rails.items()))


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
