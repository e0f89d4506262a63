"""Runs of a rebuild or of a full wipe: begun, found again, how far they are, and what a person has decided."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gb10.controller.cluster.queries import LOCK
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal, Record, journals
from gb10.controller.lock import cluster_lock
from gb10.controller.rebuild.tools import Reporter
from gb10.controller.run.runner import Runner
from gb10.facts.reading.node import LockHolder

REBUILD = "rebuild"  # kinds of runs
WIPE_ALL = "wipe-all"
RESTORE = "restore"  # the step whose refusal a person can accept


@dataclass(frozen=True)
class Progress:
    """How far a run is, by its journal."""

    journal: Journal

    @property
    def started(self) -> Record:
        """The first record of the run. Raise JOURNAL_BROKEN if there is none."""
        found = self.journal.last("started")
        if found is None:
            raise Gb10Error("JOURNAL_BROKEN", f"{self.journal.path} does not say what was begun")
        return found

    @property
    def kind(self) -> str:
        return str(self.started["kind"])

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.started["nodes"])

    @property
    def ended(self) -> str | None:
        """How it ended: "finished" or "aborted"; None while it can be resumed."""
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
    def current(self) -> Record | None:
        """The newest record about a step."""
        return next((record for record in reversed(self.journal.records) if record["event"].startswith("step-")), None)

    @property
    def sighted(self) -> Record | None:
        """What was last seen of the node that a person wipes; None if no node is waited for."""
        sighted = self.journal.last("sighted")
        if self.ended or sighted is None or self.journal.last("returned", node=sighted["node"]):
            return None
        return sighted

    @property
    def keeper_trouble(self) -> str | None:
        """What is wrong with the node that stays, while the other one is waited for."""
        keeper = self.journal.last("keeper", node=self.sighted["node"]) if self.sighted else None
        return str(keeper["text"]) if keeper and not keeper["well"] else None

    def to_json(self, at_work: str | None = None) -> dict[str, Any]:
        return {
            "name": self.journal.run,
            "kind": self.kind,
            "nodes": list(self.nodes),
            "done": list(self.done),
            "ended": self.ended,
            "at_work": at_work,
            "current": self.current,
            "sighted": self.sighted,
            "journal": str(self.journal.path),
        }


# Begin, or find again -------------------------------------------------------------------------------------------------


def runs(inventory: Inventory, *kinds: str) -> Iterator[Progress]:
    """Yield the runs of these kinds on these nodes, oldest first. Raise JOURNAL_BROKEN for an unreadable journal."""
    for path in journals():
        journal = Journal.load(path)
        started = journal.last("started")
        if started and started["kind"] in kinds and not set(endpoints(inventory)).isdisjoint(started["endpoints"]):
            yield Progress(journal)


def endpoints(inventory: Inventory) -> list[str]:
    """Return the addresses that distinguish this cluster from others on the same controller."""
    return sorted(host.endpoint for host in inventory.hosts)


def unfinished(inventory: Inventory, kind: str = REBUILD) -> Progress | None:
    """Return the run on these nodes that can be resumed, or None."""
    return next((run for run in reversed(list(runs(inventory, kind))) if run.ended is None), None)


def unfinished_rebuild(inventory: Inventory) -> Progress:
    """Return the rebuild that can be resumed. Raise REBUILD_NONE if there is none."""
    found = unfinished(inventory)
    if found is None:
        raise Gb10Error("REBUILD_NONE")
    return found


def unwritten(run: Progress | None) -> Journal:
    """Return a journal that is only read, with the records of a run, if any."""
    return Journal(Path("/nonexistent/plan.jsonl"), run.journal.records if run else ())


def begin(inventory: Inventory, nodes: Sequence[str], kind: str = REBUILD) -> Journal:
    """Begin a run. The journal is on the disk before anything else is done."""
    journal = Journal.create(new_name(kind))
    source = str(Path(inventory.source).absolute())
    journal.write(
        "started", kind=kind, nodes=list(nodes), endpoints=endpoints(inventory), inventory=source, **this_controller()
    )
    return journal


def adopt(lost: Progress, name: str, node: str) -> Journal:
    """Begin a run that goes on with a lost one, whose journal a node kept."""
    journal = Journal.create(name)
    journal.take_over(lost.journal.records)
    journal.write("adopted", kept_by=node, **this_controller())
    return journal


def new_name(kind: str) -> str:
    """Return the name of a new run."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{kind}-{os.getpid()}"


def this_controller() -> dict[str, str | int]:
    """Return what a journal and locks say about this process."""
    return {"controller": socket.gethostname(), "owner": getpass.getuser(), "pid": os.getpid()}


def begin_or_resume(inventory: Inventory, nodes: Sequence[str], accept: Sequence[str]) -> Journal:
    """Begin the rebuild of nodes, or resume it. Refuse what cannot work before anything is written.

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


def seconds_last_time(found: Iterable[Progress], node: str) -> dict[str, float]:
    """Return how long each step of a node took when it was last done. The runs come oldest first."""
    done = (record for run in found for record in run.journal.of("step-done", node=node))
    return {record["step"]: float(record["seconds"]) for record in done}


# What a person has decided --------------------------------------------------------------------------------------------


def record_decisions(journal: Journal, report: Reporter, overrides: Mapping[str, str], *, rebootstrap: bool) -> None:
    """Record what a person has decided: proofs that the next node does without, and a new cluster."""
    for node in Progress(journal).left[:1]:
        if overrides:
            report("overridden", node=node, overrides=dict(overrides))
    if rebootstrap and not journal.last("rebootstrap"):
        report("rebootstrap")


def record_accepted(journal: Journal, report: Reporter, codes: Sequence[str]) -> None:
    """Record that a person accepts a refused restore. Raise USAGE if it was not refused with these codes."""
    if codes:
        report("accepted", node=refused_restore(Progress(journal), codes), codes=list(codes))


def refused_restore(run: Progress | None, codes: Iterable[str]) -> str:
    """Return the node of a run whose restore was refused with these codes.

    Raise USAGE if it was refused with others, or not at all: nobody can accept what was not reported.
    """
    refused = run.journal.last("step-failed", step=RESTORE) if run else None
    if run is None or refused is None or run.journal.last("step-done", node=refused["node"], step=RESTORE):
        raise Gb10Error("USAGE", reason="--accept goes on with a restore that was refused, and none was: leave it out")
    node = str(refused["node"])
    reported = {record["code"] for record in run.journal.of("step-failed", node=node, step=RESTORE)}
    for code in codes:
        if code not in reported:
            text = f"--accept {code}: the restore of {node} was not refused for that: leave it out"
            raise Gb10Error("USAGE", reason=text)
    return node


# Who is at work -------------------------------------------------------------------------------------------------------


def lock_holders(runner: Runner) -> tuple[dict[str, LockHolder], tuple[Gb10Error, ...]]:
    """Return the holders of the nodes' locks by host, and the errors of hosts that did not answer."""
    found = runner.facts([LOCK])
    held = {host: found.of(host, LOCK) for host in found.hosts}
    return {host: holder for host, holder in held.items() if holder}, found.errors


def at_work(inventory: Inventory) -> str | None:
    """Return who works on these nodes right now from this controller, or None."""
    try:
        with cluster_lock(endpoints(inventory), "gb10 rebuild status"):
            return None
    except Gb10Error as error:
        return str(error.details.get("owner", "another gb10"))
