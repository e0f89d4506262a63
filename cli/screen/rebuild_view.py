"""Show a rebuild: its preview, its events, and its journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from gb10.cli.screen.console import BARE, stderr, stdout, time_span
from gb10.controller.journal import Journal, moment
from gb10.controller.rebuild.adoption import Lost
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.plan import Preview
from gb10.controller.rebuild.runs import Progress
from gb10.facts.reading.copy import shown

KINDS = {"own": "our own work", "copy": "copying", "load": "loading models", "human": "waiting for a person"}
CONDITIONS = {"intact": "", "away": " (it is away)", "wiped": " (it was wiped)"}
Record = Mapping[str, Any]


class RebuildView:
    """Print the events of a run. Each has a method, named after the event; others are not shown."""

    def __call__(self, record: Record, /) -> None:
        show = getattr(self, f"_{record['event'].replace('-', '_')}", None)
        if show:
            show(record)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        stderr.print(Text.assemble(*parts), soft_wrap=True)

    def _node_began(self, record: Record) -> None:
        self._print("\n", (record["node"], "bold"), CONDITIONS[record["condition"]])

    def _step_began(self, record: Record) -> None:
        self._print(("▸ ", "blue"), (record["title"], "bold"))

    def _step_held(self, record: Record) -> None:
        self._print(("✓ ", "green"), record["title"], (f"  {record['evidence']}", "dim"))

    def _step_done(self, record: Record) -> None:
        evidence = f"  {record['evidence']}, {record['seconds']:.0f} s"
        self._print(("✓ ", "bold green"), record["title"], (evidence, "dim"))

    def _waiting(self, record: Record) -> None:
        self._print((f"  {record['text']}", "dim"))

    def _gate(self, record: Record) -> None:
        for demand in map(Demand.from_json, record["demands"]):
            mark = ("✓", "green") if demand.holds else ("!", "yellow") if demand.passes else ("✗", "red")
            age = f"  {time_span(demand.age_seconds)} old" if demand.holds else ""
            override = f"  done without: {demand.override}" if demand.override is not None else ""
            self._print("  ", mark, f" {demand.name:<13}", demand.text, (age, "dim"), (override, "yellow"))
            if not demand.passes:
                self._print(f"      → {demand.remedy}")

    def _left_behind(self, record: Record) -> None:
        names, keeper = ", ".join(record["names"]), record["keeper"]
        self._print(("! ", "yellow"), f"not on {keeper}, so lost with the wipe: {names}")

    def _wipe_asked(self, record: Record) -> None:
        self._print("\nLost with the wipe")
        for line in record["risks"]:
            self._print(("  • ", "yellow"), line)
        self._instructions(record)

    def _instructions(self, record: Record) -> None:
        self._print()
        for number, line in enumerate(record["instructions"], start=1):
            self._print((f"  {number}. ", "bold"), line)
        self._print()

    def _seen(self, record: Record) -> None:
        self._print((f"  {datetime.now():%H:%M:%S}  ", "dim"), record["text"])
        for line in record["lines"]:
            self._print((f"    {line}", "bold"))

    def _keeper(self, record: Record) -> None:
        self._print(("✓ ", "green") if record["well"] else ("! ", "bold red"), (record["text"], "bold"))

    def _address_moved(self, record: Record) -> None:
        self._print(("! ", "yellow"), f"serving has moved from {record['before']} to {record['after']}")

    def _stopped(self, record: Record) -> None:
        for line in record["where"]:
            self._print(("  • ", "yellow"), line)

    def _node_done(self, record: Record) -> None:
        self._print(("✓ ", "bold green"), (f"{record['node']} is rebuilt", "bold"))


def print_preview(shown: Preview) -> None:
    """Print the steps of a node, each with what it would do now and how long it took last time, and the risks."""
    table = Table("", "step", "now", "last time", **BARE)
    for step in shown.steps:
        took = "[dim]-[/]" if step.seconds_last_time is None else f"{step.seconds_last_time:.0f} s"
        table.add_row("[red]●[/]" if step.destroys else "[dim]·[/]", step.name, Text(step.plan), took)
    stdout.print(Text(shown.node, style="bold"))
    stdout.print(table)
    print_lines("What you will have to do", shown.person)
    print_lines("At risk", shown.risks)
    missing = [f"{demand.name}: {demand.text}" for demand in shown.gate if not demand.holds]
    print_lines("What the gate would still ask for now", missing)


def print_lines(title: str, lines: Iterable[str]) -> None:
    """Print a list under a title; nothing if there are no lines."""
    found = list(lines)
    if found:
        stdout.print(Text(f"\n{title}", style="bold"))
        for line in found:
            stdout.print(Text(f"  {line}"), soft_wrap=True)


def print_progress(run: Progress, alive: str | None, resume: str) -> None:
    """Print how far a run is. `alive` names the process that carries it out; `resume` is the command to go on."""
    current = run.current
    state = run.ended or (f"at work: {alive}" if alive else f"interrupted; go on: {resume}")
    lines = [Text.assemble((run.journal.run, "bold"), f"  {', '.join(run.nodes)}  {state}")]
    if run.done:
        lines.append(Text(f"  rebuilt: {', '.join(run.done)}"))
    if current and not run.ended:
        what, why = current["event"].removeprefix("step-"), f": {current['reason']}" if "reason" in current else ""
        lines.append(Text(f"  {current['node']}: {current['step']} {what} at {_clock(current)}{why}"))
    if sighted := run.sighted:
        lines.append(Text(f"  at {_clock(sighted)}  {sighted['text']}"))
        lines += [Text(f"    {line}") for line in sighted["lines"]]
        if run.keeper_trouble:
            lines.append(Text(f"  {run.keeper_trouble}", style="bold red"))
    for line in lines:
        stdout.print(line, soft_wrap=True)


def print_lost(lost: Lost) -> None:
    """Print a run that may be taken over: who carried it out, how far it is, and what a person has decided."""
    began, (*_, last) = lost.progress.started, lost.progress.journal.records
    locked = f"locked by {lost.holder} since {lost.holder.since}" if lost.holder else "not locked"
    lines = [
        f"begun by {began['owner']}@{began['controller']} (pid {began['pid']}) at {began['at']}",
        f"last heard of at {last['at']}: {last['event']}",
        f"{lost.node} is {locked}",
        *lost.decisions,
    ]
    stdout.print(f"{lost.node} keeps the journal of a {lost.progress.kind} of {', '.join(lost.progress.nodes)}")
    for line in lines:
        stdout.print(Text(f"  {shown(line)}"), soft_wrap=True)


def _clock(record: Record) -> str:
    return f"{moment(record['at']).astimezone():%H:%M:%S}"


def print_journal(journal: Journal) -> None:
    """Print all records of a run, and the time that each kind of work took."""
    table = Table("at", "node", "step", "what", "seconds", **BARE)
    spent: dict[str, float] = defaultdict(float)
    for record in journal.records:
        at = f"{moment(record['at']).astimezone():%Y-%m-%d %H:%M:%S}"
        what = f"{record['event'].removeprefix('step-')}  {_summary(record)}"
        seconds = f"{record['seconds']:.1f}" if "seconds" in record else ""
        table.add_row(at, record.get("node", ""), record.get("step", ""), Text(what), seconds)
        if "seconds" in record:
            spent[record["kind"]] += record["seconds"]
    stdout.print(Text(journal.run, style="bold"))
    stdout.print(table)
    for kind, total in spent.items():
        stdout.print(f"{KINDS[kind]}: {time_span(total)}")


def _summary(record: Record) -> str:
    """Return the details of a record that are worth a line."""
    missing = [demand for demand in record.get("demands", ()) if not demand["holds"]]
    reasons = [f"{demand['name']}: {demand['override'] or 'missing, ' + demand['text']}" for demand in missing]
    names = ", ".join(record.get("nodes") or record.get("names") or record.get("codes") or ())
    known = record.get("evidence"), record.get("reason"), "; ".join(reasons), names
    return next(filter(None, known), record.get("host_key") or record.get("text") or "")
