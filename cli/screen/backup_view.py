"""Show backups: their progress, their result, and the list of all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table

from gb10.cli.screen import console
from gb10.cli.screen.transfer import LINE_SECONDS, Bars, drawn_bars
from gb10.controller.run.messages import Event, Reported
from gb10.facts.reading.backups import BackupCopy
from gb10.operations.backups.reports import Kept, Made, ProofDone, Remark, Transferred
from gb10.operations.copying.plan import human
from gb10.programs.backups.store import ProofResult


class BackupView:
    """Show backups and proofs while they run, and keep what they report."""

    def __init__(self, bars: Bars) -> None:
        self.made: list[Made] = []
        self.kept: list[Kept] = []
        self.proofs: list[ProofResult] = []
        self._bars = bars
        self._printed: dict[str, float] = {}  # host -> time of its last line of progress

    def hear(self, event: Event) -> None:
        match event:
            case Reported(host, Transferred() as moved):
                self._bars.begin(host, moved.what, moved.total_bytes)
                self._bars.move(host, moved.done_bytes)
                self._print_progress(host, moved)
            case Reported(host, Made() | Kept() | ProofDone() as report):
                self._bars.end(host)
                self._keep(report)
                console.print_line(f"  {report.line}")
            case Reported(host, Remark() as report):
                console.print_line(f"  {host}: {report.line}")

    def _keep(self, report: Made | Kept | ProofDone) -> None:
        match report:
            case Made():
                self.made.append(report)
            case Kept():
                self.kept.append(report)
            case ProofDone(result):
                self.proofs.append(result)

    def _print_progress(self, host: str, moved: Transferred) -> None:
        """Print a line without a terminal: when something begins, then every LINE_SECONDS."""
        now = time.monotonic()
        is_due = not moved.done_bytes or now - self._printed.setdefault(host, now) >= LINE_SECONDS
        if is_due and not self._bars.drawn:
            self._printed[host] = now
            console.print_line(f"  {moved.line}")


@contextmanager
def shown_backups() -> Iterator[BackupView]:
    """Show backups: with bars on a terminal, as lines elsewhere."""
    with drawn_bars() as bars:
        yield BackupView(bars)


def print_backups(rows: Sequence[tuple[str, BackupCopy]]) -> None:
    """Print a table of copies of backups, each with the place where it is."""
    table = Table("backup", "where", "age", "size", "K3s", "proven", **console.BARE)
    for where, copy in rows:
        size = human(copy.size) + (" age" if copy.encrypted else "")
        k3s = str(copy.versions.get("k3s") or "-")
        table.add_row(escape(copy.id), where, _age(copy.created), size, escape(k3s), _verdict(where, copy))
    console.stdout.print(table if rows else "There are no backups yet: gb10 backup --all")


def _verdict(where: str, copy: BackupCopy) -> str:
    """Return the result of the last proof of this copy."""
    if not copy.complete:
        return "[red]incomplete[/]"
    proof = next((one for one in copy.evidence if one.where == where), None)
    if proof is None:
        return "[yellow]not yet[/]"
    if not proof.proven or proof.sha256 != copy.sha256:
        return f"[red]no[/]: {escape('; '.join(proof.reasons)) or 'it was exchanged since'}"
    return f"[green]yes[/], {console.time_span(proof.age_seconds)} ago"


def _age(created: str | None) -> str:
    try:
        made = datetime.strptime(created or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "?"
    return console.time_span((datetime.now(UTC) - made).total_seconds())
