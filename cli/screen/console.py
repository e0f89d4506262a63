"""Progress and errors on standard error, results on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gb10.controller.errors import Gb10Error
from gb10.controller.run.client import OnEvent
from gb10.controller.run.messages import (
    Connected,
    ConnectFailed,
    Event,
    FactFailed,
    HostFailed,
    Logged,
    OperationEnded,
    OperationStarted,
    Ready,
    StageStarted,
)
from gb10.controller.run.results import RunResult

SHOWN_LINES = 8  # of the output of a failed host; the log has all of it
WIDTH = 200  # without a terminal, so that nothing is wrapped in a file or a pipe
MARKS = {
    "ok": ("✓", "dim"),
    "changed": ("✓", "green"),
    "unchanged": ("·", "dim"),
    "failed": ("✗", "bold red"),
}
BARE: dict[str, Any] = {"box": None, "header_style": "bold", "pad_edge": False}  # how tables look
STAGES = {"connect": "Connect", "prepare": "Look at the nodes", "facts": "Ask the nodes"}

# Both are quiet under --json.
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
stderr = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)


def is_live() -> bool:
    """Return True if progress is drawn in place: on a terminal with colours, and not under --json."""
    return stderr.is_terminal and not stderr.no_color and not stderr.quiet


def print_line(text: str, style: str = "") -> None:
    """Print a line on standard error. It is not wrapped, so that a command can be copied."""
    stderr.print(Text(text, style=style), soft_wrap=True)


def print_note(text: str) -> None:
    print_line(text, "dim")


def print_done(text: str) -> None:
    stderr.print(Text.assemble(("✓ ", "bold green"), text), soft_wrap=True)


def print_error(error: Gb10Error) -> None:
    """Print an error and its remedy."""
    stderr.print(f"[bold red]✗[/] {escape(_located(error))}  [dim]{error.code}[/]", soft_wrap=True)
    print_line(f"  → {error.remedy}")


def _located(error: Gb10Error) -> str:
    return f"{error.host}: {error.summary}" if error.host and error.host not in error.summary else error.summary


def time_span(seconds: float) -> str:
    """Return a time span in a unit that suits its length: "90 s", "3 h"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


# The progress of a run ------------------------------------------------------------------------------------------------


class _Step:
    """A line of progress: an operation, or a stage of the run such as connecting."""

    def __init__(self, name: str, hosts: Sequence[str]) -> None:
        self.name = name
        self.marks: dict[str, str] = {}
        self._hosts = hosts
        self._began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def outcome(self) -> str:
        """The worst outcome of any host."""
        return next((mark for mark in ("failed", "changed", "ok") if mark in self.marks.values()), "unchanged")

    def ordered(self) -> list[tuple[str, str]]:
        return [(host, self.marks[host]) for host in self._hosts if host in self.marks]

    def plain(self) -> str:
        """Return the line of an ended step for a file or a pipe."""
        marks = ", ".join(f"{host} {mark}" for host, mark in self.ordered())
        return f"{self.outcome:>9}  {self.name}{f' ({marks})' if marks else ''}  {self.seconds:.1f} s"

    def drawn(self, running: bool) -> Table:
        """Return the line for a terminal; text that does not fit is cut, never wrapped."""
        sign, style = MARKS[self.outcome]
        marks = Text()
        for host, mark in self.ordered():
            marks.append(f"  {host} {MARKS[mark][0]}", style=MARKS[mark][1])
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(no_wrap=True)
        grid.add_column(width=8, justify="right", no_wrap=True)
        name = Text(self.name, style="" if running or self.outcome in ("changed", "failed") else "dim")
        grid.add_row(self._spinner if running else Text(sign, style), name, marks, Text(f"{self.seconds:.1f} s", "dim"))
        return grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.drawn(running=True)


class _Progress:
    """Show the steps of a run: with `live`, the current one spins below those that have ended."""

    def __init__(self, hosts: Sequence[str], verbosity: int, live: Live | None) -> None:
        self._hosts = hosts
        self._verbosity = verbosity
        self._live = live
        self._step: _Step | None = None

    def hear(self, event: Event) -> None:
        match event:
            case StageStarted(stage):
                self.end_step()
                if stage in STAGES:
                    self._begin(STAGES[stage])
            case OperationStarted(name):
                self.end_step()
                self._begin(short_name(name))
            case OperationEnded(result):
                self._mark("changed", *result.changed)
                self._mark("unchanged", *result.unchanged)
                self._mark("failed", *result.failed)
            case Connected(host) | Ready(host):
                self._mark("ok", host)
            case ConnectFailed(host, _):
                self._mark("failed", host)
            case HostFailed(host, _, output) | FactFailed(host, _, _, output):
                self._mark("failed", host)
                self._print_output(host, output[-SHOWN_LINES:])
            case Logged(text, str(host)) if self._verbosity:
                self._print_output(host, [text])

    def end_step(self) -> None:
        if self._step and self._live:
            self._live.update("")
            stderr.print(self._step.drawn(running=False))
        elif self._step:
            print_line(self._step.plain())
        self._step = None

    def _begin(self, name: str) -> None:
        self._step = _Step(name, self._hosts)
        if self._live:
            self._live.update(self._step, refresh=True)

    def _mark(self, mark: str, *hosts: str) -> None:
        if self._step:
            self._step.marks.update(dict.fromkeys(hosts, mark))

    def _print_output(self, host: str, lines: Iterable[str]) -> None:
        for line in lines:
            print_line(f"    {host}: {line}" if self._live else f"{'':>9}  {host}: {line}", "dim" if self._live else "")


@contextmanager
def progress(title: str, hosts: Sequence[str], verbosity: int = 0) -> Iterator[OnEvent]:
    """Show the progress of a run: in place on a terminal, as plain lines elsewhere and under NO_COLOR."""
    names = ", ".join(hosts)
    if is_live():
        stderr.print(Text.assemble((title, "bold"), f"  {names}"))
    else:
        print_line(f"{title}: {names}")
    with Live(console=stderr, refresh_per_second=10, transient=True) if is_live() else nullcontext() as live:
        shown = _Progress(hosts, verbosity, live)
        yield shown.hear
        shown.end_step()


def waiting(text: str) -> AbstractContextManager[object]:
    """Show a spinner on a terminal while the context lasts."""
    return stderr.status(text) if is_live() else nullcontext()


# The result of a run -------------------------------------------------------------------------------------------------


def print_result(result: RunResult, diff: bool = False) -> None:
    """Print what a run changed or a dry run found, then all errors, the cause first."""
    for line in result.diff if diff else ():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line.strip()[:1], "")
        stdout.print(Text(line, style=style), soft_wrap=True)
    if result.dry:
        _print_plan(result)
    elif result.ok and not result.changed:
        print_done(f"Nothing to change in {len(result.operations)} operations, {result.seconds:.0f} s")
    elif result.ok:
        done = f"{len(result.changed)} of {len(result.operations)} operations changed something"
        print_done(f"{done}, {result.seconds:.0f} s")
    for error in sorted(result.errors, key=lambda error: error is not result.error):
        print_error(error)


def _print_plan(result: RunResult) -> None:
    """Print the operations that would change something, the hosts, and what would be refused."""
    table = Table("operation", "would change", "if another changes", **BARE)
    busy = [operation for operation in result.operations if operation.changed or operation.conditional]
    for operation in busy:
        changed, conditional = ", ".join(operation.changed), ", ".join(operation.conditional)
        table.add_row(escape(short_name(operation.name)), changed, conditional)
    if busy:
        stdout.print(table)
    stdout.print(f"{len(busy)} of {len(result.operations)} operations would change something; nothing was changed.")
    for error in result.foreseen:
        stdout.print(f"[yellow]![/] would be refused: {escape(_located(error))}  [dim]{error.code}[/]", soft_wrap=True)
    for remedy in dict.fromkeys(error.remedy for error in result.foreseen):
        stdout.print(f"  → {escape(remedy)}", soft_wrap=True)


def short_name(operation: str) -> str:
    """Given "Deploy | Operation", return "Operation": the person who typed the command knows the deploy."""
    return operation.partition(" | ")[2] or operation
