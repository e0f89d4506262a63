"""What a person sees of backups: how far they are, what came of them, and the list of those that there are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.markup import escape
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from gb10.cli.screen import console
from gb10.controller.run.messages import Event, Reported
from gb10.facts.reading.backups import BackupCopy
from gb10.operations.backups.reports import Kept, Made, NoKeeper, Noted, Pruned, Transferred, Tried
from gb10.operations.copying.plan import human
from gb10.programs.backups.store import ProofResult

LINE_SECONDS = 10  # between two lines that say how far something is


class BackupView:
    """Follows backups and proofs as they come."""

    def __init__(self, progress: Progress | None, quiet: bool) -> None:
        self.made: list[Made] = []
        self.kept: list[Kept] = []
        self.proofs: list[ProofResult] = []
        self._progress = progress
        self._quiet = quiet
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._told: dict[str, float] = {}  # host -> when a line said how far it is

    def hear(self, event: Event) -> None:
        """Take in the next event of a run."""
        match event:
            case Reported(host, Transferred() as moved):
                self._show(host, moved)
            case Reported(host, Made() | Kept() | Tried() as report):
                self._end(host)
                self._keep(report)
                self._print(f"  {report.line}")
            case Reported(host, Noted() | NoKeeper() | Pruned() as report):
                self._print(f"  {host}: {report.line}")

    def _keep(self, report: Made | Kept | Tried) -> None:
        match report:
            case Made():
                self.made.append(report)
            case Kept():
                self.kept.append(report)
            case Tried(result):
                self.proofs.append(result)

    def _show(self, host: str, moved: Transferred) -> None:
        if self._progress is None:
            self._show_line(host, moved)
            return
        key = (host, moved.what)
        if key not in self._tasks:
            self._end(host)
            self._tasks[key] = self._progress.add_task(moved.what, total=moved.total_bytes)
        self._progress.update(self._tasks[key], completed=moved.done_bytes)

    def _show_line(self, host: str, moved: Transferred) -> None:
        """The same as a line: not many of them, for they stay."""
        now = time.monotonic()
        if moved.done_bytes and now - self._told.setdefault(host, now) < LINE_SECONDS:
            return
        self._told[host] = now
        self._print(f"  {moved.line}")

    def _end(self, host: str) -> None:
        for key in [key for key in self._tasks if key[0] == host]:
            if self._progress is not None:
                self._progress.remove_task(self._tasks.pop(key))

    def _print(self, text: str) -> None:
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=console.stderr().file, flush=True)


@contextmanager
def shown(quiet: bool) -> Iterator[BackupView]:
    """Show backups: what has come so far on a terminal, lines elsewhere, nothing if `quiet`."""
    terminal = console.stderr()
    if quiet or not terminal.is_terminal or terminal.no_color:
        yield BackupView(None, quiet)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        yield BackupView(progress, quiet)


def print_list(rows: Sequence[tuple[str, BackupCopy]]) -> None:
    table = Table("backup", "where", "age", "size", "K3s", "proven", **console.BARE)
    for where, copy in rows:
        table.add_row(
            escape(copy.id),
            where,
            _ago(copy.created),
            human(copy.size) + (" age" if copy.encrypted else ""),
            str(copy.versions.get("k3s") or "-"),
            _verdict(where, copy),
        )
    if rows:
        console.stdout().print(table)
    else:
        console.stdout().print("There are no backups yet: gb10 backup --all")


def _verdict(where: str, copy: BackupCopy) -> str:
    """What came of the last proof of the copy that lies there."""
    if not copy.complete:
        return "[red]incomplete[/]"
    proof = next((one for one in copy.evidence if one.where == where), None)
    if proof is None:
        return "[yellow]not yet[/]"
    if not proof.proven or proof.sha256 != copy.sha256:
        return f"[red]no[/]: {escape('; '.join(proof.reasons)) or 'it was exchanged since'}"
    return f"[green]yes[/], {_span(proof.age_seconds)} ago"


def _ago(created: str | None) -> str:
    try:
        made = datetime.strptime(created or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "?"
    return _span((datetime.now(UTC) - made).total_seconds())


def _span(seconds: float) -> str:
    """A time in the unit that people would choose."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
