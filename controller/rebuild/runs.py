"""Runs of a rebuild or of a full wipe: begun, found again, and what a person has said about them."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal, Record, journals, moment
from gb10.controller.rebuild.history import ACCEPTED, REBOOTSTRAP, RESTORE
from gb10.controller.rebuild.reporting import Report

REBUILD = "rebuild"  # kinds of runs
WIPE_ALL = "wipe-all"


@dataclass(frozen=True)
class Started:
    """How a run began: the first record of its journal."""

    kind: str
    nodes: tuple[str, ...]
    endpoints: frozenset[str]
    owner: str
    controller: str
    at: str  # in UTC, as in the journal

    @classmethod
    def of(cls, journal: Journal) -> Started | None:
        """Read a journal; None if it is not the journal of a run."""
        found = journal.last("started")
        if found is None:
            return None
        nodes, places = tuple(found["nodes"]), frozenset(found["endpoints"])
        return cls(found["kind"], nodes, places, found["owner"], found["controller"], found["at"])


@dataclass(frozen=True)
class StepWord:
    """What was last said about a step."""

    at: datetime
    node: str
    step: str
    what: str  # "began", "held", "done", "failed" or "interrupted"
    reason: str | None  # why it failed


@dataclass(frozen=True)
class Sighted:
    """What was last seen of a machine that a person wipes, and the lines that they are to type there."""

    at: datetime
    node: str
    text: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a run is, by its journal."""

    journal: Journal

    @property
    def started(self) -> Started:
        """How it began. Raise JOURNAL_BROKEN if the journal does not tell."""
        found = Started.of(self.journal)
        if found is None:
            raise Gb10Error("JOURNAL_BROKEN", f"{self.journal.path} does not tell what was begun")
        return found

    @property
    def kind(self) -> str:
        return self.started.kind

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.started.nodes

    @property
    def ended(self) -> str | None:
        """How it ended: "finished" or "aborted"; None while it may go on."""
        return next((event for event in ("finished", "aborted") if self.journal.last(event)), None)

    @property
    def done(self) -> tuple[str, ...]:
        """The nodes that are rebuilt."""
        return tuple(record["node"] for record in self.journal.of("node-done"))

    @property
    def left(self) -> tuple[str, ...]:
        """The nodes that are still to be rebuilt."""
        return tuple(node for node in self.nodes if node not in self.done)

    @property
    def current(self) -> StepWord | None:
        """The newest word about a step."""
        found = self._current
        if found is None:
            return None
        what = found["event"].removeprefix("step-")
        return StepWord(moment(found["at"]), found["node"], found["step"], what, found.get("reason"))

    @property
    def waits_for(self) -> Sighted | None:
        """What was last seen of a node that a person was asked to wipe; None unless one is waited for."""
        found = self._sighted
        return Sighted(moment(found["at"]), found["node"], found["text"], tuple(found["lines"])) if found else None

    @property
    def keeper_trouble(self) -> str | None:
        """What is wrong with the node that stays, while the other one is waited for."""
        keeper = self.journal.last("keeper", node=self.waits_for.node) if self.waits_for else None
        return str(keeper["text"]) if keeper and not keeper["well"] else None

    @property
    def _current(self) -> Record | None:
        return next((record for record in reversed(self.journal.records) if record["event"].startswith("step-")), None)

    @property
    def _sighted(self) -> Record | None:
        sighted = self.journal.last("sighted")
        if self.ended or sighted is None or self.journal.last("returned", node=sighted["node"]):
            return None
        return sighted

    def to_json(self, at_work: str | None = None) -> dict[str, Any]:
        return {
            "name": self.journal.run,
            "kind": self.kind,
            "nodes": list(self.nodes),
            "done": list(self.done),
            "ended": self.ended,
            "at_work": at_work,
            "current": self._current,
            "sighted": self._sighted,
            "journal": str(self.journal.path),
        }


def runs(inventory: Inventory, *kinds: str) -> Iterator[Progress]:
    """The runs of these kinds on these nodes, oldest first. Raise JOURNAL_BROKEN if a journal cannot be read."""
    for path in journals():
        journal = Journal.load(path)
        started = Started.of(journal)
        if started and started.kind in kinds and started.endpoints & set(endpoints(inventory)):
            yield Progress(journal)


def endpoints(inventory: Inventory) -> list[str]:
    """What tells this cluster from others on the same controller."""
    return sorted(host.endpoint for host in inventory.hosts)


def unfinished(inventory: Inventory, kind: str = REBUILD) -> Progress | None:
    """The run on these nodes that may go on, or None."""
    return next((run for run in reversed(list(runs(inventory, kind))) if run.ended is None), None)


def to_go_on(inventory: Inventory) -> Progress:
    """The unfinished rebuild. Raise REBUILD_NONE if there is none."""
    found = unfinished(inventory)
    if found is None:
        raise Gb10Error("REBUILD_NONE")
    return found


def unwritten(run: Progress | None) -> Journal:
    """A journal that is only read: what a run remembers, or nothing."""
    return Journal(Path("/nonexistent/plan.jsonl"), run.journal.records if run else ())


def begin(inventory: Inventory, nodes: Sequence[str], kind: str = REBUILD) -> Journal:
    """Begin a run. The journal is on the disk before anything else is done."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{kind}-{os.getpid()}"
    journal = Journal.create(name)
    journal.write(
        "started",
        kind=kind,
        nodes=list(nodes),
        endpoints=endpoints(inventory),
        inventory=str(Path(inventory.source).absolute()),
        controller=socket.gethostname(),
        owner=getpass.getuser(),
        pid=os.getpid(),
    )
    return journal


def begin_or_go_on(inventory: Inventory, nodes: Sequence[str], accept: Sequence[str]) -> Journal:
    """Begin the rebuild of nodes, or go on with it. Refuse what cannot work before anything is written down.

    Raise REBUILD_UNFINISHED, WIPE_UNFINISHED, REBUILD_IMPOSSIBLE or USAGE.
    """
    found = unfinished(inventory)
    if found and list(found.nodes) != list(nodes):
        raise Gb10Error("REBUILD_UNFINISHED", f"the rebuild of {', '.join(found.nodes)} is not finished")
    if not found and unfinished(inventory, WIPE_ALL):
        raise Gb10Error("WIPE_UNFINISHED")
    if not found and len(inventory.hosts) < 2:
        raise Gb10Error("REBUILD_IMPOSSIBLE", f"{', '.join(nodes)} is alone: no other node could keep its models")
    if accept:
        refused_restore(found, accept)
    return found.journal if found else begin(inventory, nodes)


def in_order(hosts: Iterable[InventoryHost]) -> list[InventoryHost]:
    """Return nodes in the order of their rebuild: workers first, the head last."""
    return sorted(hosts, key=lambda host: "head" in host.groups)


def decide(journal: Journal, report: Report, overrides: Mapping[str, str], *, rebootstrap: bool) -> None:
    """Write down what a person has decided: proofs to do without for the node that is next, and a new cluster."""
    for node in Progress(journal).left[:1]:
        if overrides:
            report("overridden", node=node, overrides=dict(overrides))
    if rebootstrap and not journal.last(REBOOTSTRAP):
        report(REBOOTSTRAP)


def accept(journal: Journal, report: Report, codes: Sequence[str]) -> None:
    """Write down that a person goes on with a restore that was refused for this. Raise USAGE if none was."""
    if codes:
        report(ACCEPTED, node=refused_restore(Progress(journal), codes), codes=list(codes))


def refused_restore(run: Progress | None, codes: Iterable[str]) -> str:
    """Return the node of a run whose restore was refused for these reasons.

    Raise USAGE if it was refused for others, or not at all: nobody agrees to what was not said.
    """
    refused = run.journal.last("step-failed", step=RESTORE) if run else None
    if run is None or refused is None or run.journal.last("step-done", node=refused["node"], step=RESTORE):
        raise Gb10Error("USAGE", reason="--accept goes on with a restore that was refused, and none was: leave it out")
    node = str(refused["node"])
    said = {record["code"] for record in run.journal.of("step-failed", node=node, step=RESTORE)}
    for code in codes:
        if code not in said:
            text = f"--accept {code}: the restore of {node} was not refused for that: leave it out"
            raise Gb10Error("USAGE", reason=text)
    return node


def seconds_last_time(found: Iterable[Progress], node: str) -> dict[str, float]:
    """Return how long each step of a node took when it was last done. The runs come oldest first."""
    done = (record for run in found for record in run.journal.of("step-done", node=node))
    return {record["step"]: float(record["seconds"]) for record in done}
