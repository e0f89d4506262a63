"""A rebuild or full wipe whose controller is lost, taken over by this one from the journal that the nodes keep.

The journal comes from a node, so it is checked before anything of it counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gb10.controller.cluster.queries import JOURNAL, LOCK
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.journal import Journal, Record, moment, parse_records
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.runs import REBUILD, WIPE_ALL, Progress, endpoints, unfinished
from gb10.controller.rebuild.step import ALL
from gb10.controller.run.runner import Runner
from gb10.facts.reading.node import JOURNAL_FILE, LockHolder
from gb10.programs.backups.store import AHEAD_SECONDS

MOST_CHARACTERS = 15 << 20  # of a journal
DECISIONS = {"overridden": "overrides", "accepted": "codes"}  # of a person: event -> what was decided


@dataclass(frozen=True)
class Lost:
    """A run of a lost controller, as nodes know it."""

    node: str  # that keeps its journal
    holder: LockHolder | None  # of that node's lock
    progress: Progress
    answering: tuple[str, ...]  # nodes

    @property
    def decisions(self) -> Iterator[str]:
        """What a person is said to have decided."""
        for record in self.progress.journal.records:
            if said := DECISIONS.get(record["event"]):
                yield f"{record['node']} goes without: {', '.join(record[said])}"

    @property
    def to_fetch(self) -> tuple[str, ...]:
        """The nodes whose backup the run relies on, and the lost controller had."""
        journal = self.progress.journal
        return tuple(node for node in self.progress.left if NodeHistory(journal, node).backup)


def find_lost(inventory: Inventory, runner: Runner) -> Lost:
    """Return the run with the newest journal on the nodes of a runner.

    Raise REBUILD_UNFINISHED or WIPE_UNFINISHED if this controller has a run of its own, REBUILD_NONE if no node keeps a
    journal, JOURNAL_BROKEN for one that is damaged or of other nodes.
    """
    for kind, code in ((REBUILD, "REBUILD_UNFINISHED"), (WIPE_ALL, "WIPE_UNFINISHED")):
        if unfinished(inventory, kind):
            raise Gb10Error(code, resume="gb10 rebuild resume")
    found = runner.facts([LOCK, JOURNAL])
    kept = {host: checked(host, text, inventory) for host in found.hosts if (text := found.of(host, JOURNAL))}
    if not kept:
        nothing = Gb10Error("REBUILD_NONE", "no node keeps the journal of a rebuild or a full wipe")
        raise next(iter(found.errors), nothing)
    records = {host: run.journal.records for host, run in kept.items()}
    node = max(kept, key=lambda host: (moment(records[host][-1]["at"]), len(records[host])))
    answering = tuple(host for host in found.hosts if found.has(host, LOCK))
    return Lost(node, found.of(node, LOCK), kept[node], answering)


def checked(node: str, text: str, inventory: Inventory) -> Progress:
    """Return the run of a journal that a node keeps. Raise JOURNAL_BROKEN for one that cannot be of these nodes."""
    where = f"{node}:{JOURNAL_FILE}"
    try:
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"it has more than {MOST_CHARACTERS >> 20} MiB")
        records = parse_records(text.encode(), where)
        _check(records, inventory)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Gb10Error("JOURNAL_BROKEN", f"{where} is no journal of these nodes: {error}", path=where) from error
    return Progress(Journal(Path(where), records))


def _check(records: list[Record], inventory: Inventory) -> None:
    """Raise an error unless records can be those of a run on these nodes."""
    latest = datetime.now(UTC).timestamp() + AHEAD_SECONDS
    for record in records:
        if moment(record["at"]).timestamp() > latest:
            raise ValueError(f"a record of {record['at']}, in the future")
        if record.get("node", ALL) not in (ALL, *inventory.names):
            raise ValueError(f"a record of the unknown node {record['node']!r}")
        if not all(line.isprintable() for text in _texts(record) for line in text.split("\n")):
            raise ValueError(f"control characters in the record of {record['at']}")
    started = records[0] if records else {}
    if started.get("event") != "started" or started["kind"] not in (REBUILD, WIPE_ALL):
        raise ValueError("it does not say what was begun")
    if not set(started["nodes"]) <= set(inventory.names) or started["endpoints"] != endpoints(inventory):
        raise ValueError(f"it is of {', '.join(started['nodes'])} at {', '.join(started['endpoints'])}")
    _ = started["owner"], started["controller"], started["pid"], Progress(Journal(Path(), records)).to_json()
    for node in started["nodes"]:
        history = NodeHistory(Journal(Path(), records), node)
        _ = history.snapshot, history.overrides, history.accepted, history.backup, history.backup_places


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
