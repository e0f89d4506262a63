"""Show a rebuild while it goes on, and afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from gb10.cli.screen.console import BARE, stderr, stdout
from gb10.controller.journal import Journal, moment
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.preview import Preview
from gb10.controller.rebuild.runs import Progress

KINDS = {"own": "our own work", "copy": "copying", "load": "loading models", "human": "waiting for a person"}
Record = Mapping[str, Any]


class RebuildView:
    """Prints what is reported of a run. Prints nothing if `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, record: Record, /) -> None:
        """Show the next record."""
        show = getattr(self, f"_{record['event'].replace('-', '_')}", None)
        if show and not self._quiet:
            show(record)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        stderr().print(Text.assemble(*parts), soft_wrap=True)

    def _node_began(self, record: Record) -> None:
        where = {"intact": "", "away": " (it is away)", "wiped": " (it was wiped)"}[record["condition"]]
        self._print("\n", (f"{record['node']}", "bold"), where)

    def _step_began(self, record: Record) -> None:
        self._print(("▸ ", "blue"), (record["title"], "bold"))

    def _step_held(self, record: Record) -> None:
        self._print(("✓ ", "green"), record["title"], (f"  {record['evidence']}", "dim"))

    def _step_done(self, record: Record) -> None:
        said = f"  {record['evidence']}, {record['seconds']:.0f} s"
        self._print(("✓ ", "bold green"), record["title"], (said, "dim"))

    def _waiting(self, record: Record) -> None:
        self._print((f"  {record['text']}", "dim"))

    def _gate(self, record: Record) -> None:
        for demand in map(Demand.from_json, record["demands"]):
            self._print(*demand_line(demand))
            if not demand.passes:
                self._print(f"      → {demand.remedy}")

    def _left_behind(self, record: Record) -> None:
        names, keeper = ", ".join(record["names"]), record["keeper"]
        self._print(("! ", "yellow"), f"{keeper} does not have, and so it is lost with the wipe: {names}")

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
        self._print(("! ", "yellow"), f"what is served is at {record['after']} now, no longer at {record['before']}")

    def _stopped(self, record: Record) -> None:
        for line in record["where"]:
            self._print(("  • ", "yellow"), line)

    def _node_done(self, record: Record) -> None:
        self._print(("✓ ", "bold green"), (f"{record['node']} is rebuilt", "bold"))


def demand_line(demand: Demand) -> list[str | tuple[str, str]]:
    """A demand of the gate, its proof and how old that is."""
    mark = ("✓", "green") if demand.holds else ("!", "yellow") if demand.passes else ("✗", "red")
    parts: list[str | tuple[str, str]] = ["  ", mark, f" {demand.name:<13}", demand.text]
    if demand.holds:
        parts.append((f"  {age(demand.age_seconds)} old", "dim"))
    if demand.override is not None:
        parts.append((f"  done without: {demand.override}", "yellow"))
    return parts


def age(seconds: float) -> str:
    """A time span for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def print_preview(shown: Preview) -> None:
    """Print the steps of a node with what each would do now, how long it took the last time, and what is at risk."""
    table = Table("", "step", "now", "last time", **BARE)
    for step in shown.steps:
        took = "[dim]-[/]" if step.seconds_last_time is None else f"{step.seconds_last_time:.0f} s"
        table.add_row("[red]●[/]" if step.destroys else "[dim]·[/]", step.name, Text(step.plan), took)
    console = stdout()
    console.print(Text(shown.node, style="bold"))
    console.print(table)
    print_lines("What you will have to do", shown.person)
    print_lines("At risk", shown.risks)
    missing = [f"{demand.name}: {demand.text}" for demand in shown.gate if not demand.holds]
    print_lines("What the gate would still ask for, if you came to it now", missing)


def print_lines(title: str, lines: Iterable[str]) -> None:
    """Print a list under a title; nothing if there are no lines."""
    found = list(lines)
    if found:
        stdout().print(Text(f"\n{title}", style="bold"))
        for line in found:
            stdout().print(Text(f"  {line}"), soft_wrap=True)


def print_progress(run: Progress, alive: str | None, resume: str) -> None:
    """Print how far a run is."""
    console, current = stdout(), run.current
    state = run.ended or (f"at work: {alive}" if alive else f"interrupted; go on: {resume}")
    console.print(Text.assemble((run.journal.run, "bold"), f"  {', '.join(run.nodes)}  {state}"), soft_wrap=True)
    if run.done:
        console.print(Text(f"  rebuilt: {', '.join(run.done)}"))
    if current and not run.ended:
        why = f": {current.reason}" if current.reason else ""
        since = f"{current.at.astimezone():%H:%M:%S}"
        console.print(Text(f"  {current.node}: {current.step} {current.what} at {since}{why}"), soft_wrap=True)
    if sighted := run.waits_for:
        console.print(Text(f"  at {sighted.at.astimezone():%H:%M:%S}  {sighted.text}"), soft_wrap=True)
        for line in sighted.lines:
            console.print(Text(f"    {line}"), soft_wrap=True)
        if run.keeper_trouble:
            console.print(Text(f"  {run.keeper_trouble}", style="bold red"), soft_wrap=True)


def print_story(journal: Journal) -> None:
    """Print a whole run step by step, and whose time it took."""
    table = Table("at", "node", "step", "what", "seconds", **BARE)
    spent: dict[str, float] = {}
    for record in journal.records:
        at = f"{moment(record['at']).astimezone():%Y-%m-%d %H:%M:%S}"
        said = record.get("evidence") or record.get("reason") or _said(record)
        seconds = f"{record['seconds']:.1f}" if "seconds" in record else ""
        event = record["event"].removeprefix("step-")
        table.add_row(at, record.get("node", ""), record.get("step", ""), Text(f"{event}  {said}"), seconds)
        if "seconds" in record:
            spent[record["kind"]] = spent.get(record["kind"], 0.0) + record["seconds"]
    console = stdout()
    console.print(Text(journal.run, style="bold"))
    console.print(table)
    for kind, total in spent.items():
        console.print(f"{KINDS[kind]}: {age(total)}")


def _said(record: Record) -> str:
    """What a record says beyond its name, where that is worth a line."""
    missing = [d for d in record.get("demands", ()) if not d["holds"]]
    reasons = [f"{d['name']}: {d['override'] or 'missing, ' + d['text']}" for d in missing]
    named = ", ".join(record.get("nodes") or record.get("names") or record.get("codes") or ())
    return "; ".join(reasons) or named or record.get("host_key") or record.get("text") or ""
