"""A rebuild of one or more nodes: begun, taken up again, given up, looked at. What it does with a node is elsewhere."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal, journals, now
from gb10.controller.rebuild.backup import ACCEPTED, RESTORE
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.node import REBOOTSTRAP, NodeRebuild
from gb10.controller.rebuild.steps import Steps
from gb10.controller.rebuild.tools import Tools
from gb10.facts.reading.node_lock import LockHolder

RUN = "rebuild"  # what kind of run a journal is of


class Listener(Protocol):
    """Shows what goes on."""

    def __call__(self, record: Mapping[str, Any], /) -> None: ...


class Reporter:
    """Tells everybody what goes on: the journal first, then the stream of events, then who looks on."""

    PASSING = ("seen", "waiting", "instructions")  # told, but not worth remembering

    def __init__(self, journal: Journal, listener: Listener, events: Path | None = None) -> None:
        self.journal = journal
        self._listener = listener
        self._events = events

    def __call__(self, event: str, /, **details: Any) -> None:
        if event in self.PASSING:
            record = {"at": now(), "event": event, **details}
        else:
            record = self.journal.write(event, **details)
        if self._events:
            self._append(self._events, record)
        self._listener(record)

    def _append(self, events: Path, record: Mapping[str, Any]) -> None:
        try:
            with events.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"run": self.journal.run, **record}) + "\n")
        except OSError as error:
            raise Gb10Error("STATE_UNWRITABLE", f"{events} cannot be written: {error.strerror or error}") from error


@dataclass(frozen=True)
class Progress:
    """How far a run is, as its journal tells."""

    journal: Journal

    @property
    def started(self) -> Mapping[str, Any]:
        return next(self.journal.of("started"))

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.started["nodes"])

    @property
    def ended(self) -> str | None:
        """How it ended: "finished" or "aborted"; None while it may go on."""
        for event in ("finished", "aborted"):
            if self.journal.last(event):
                return event
        return None

    @property
    def done(self) -> tuple[str, ...]:
        """The nodes that are rebuilt."""
        return tuple(record["node"] for record in self.journal.of("node-done"))

    @property
    def left(self) -> tuple[str, ...]:
        """The nodes that are still to be rebuilt."""
        return tuple(node for node in self.nodes if node not in self.done)

    @property
    def current(self) -> Mapping[str, Any] | None:
        """The last word about a step."""
        words = [record for record in self.journal.records if record["event"].startswith("step-")]
        return words[-1] if words else None

    @property
    def waits_for(self) -> Mapping[str, Any] | None:
        """What was last seen of a node that a person was asked to wipe; None unless one is waited for."""
        sighted = self.journal.last("sighted")
        if self.ended or sighted is None or self.journal.last("returned", node=sighted["node"]):
            return None
        return sighted


def endpoints(inventory: Inventory) -> list[str]:
    """What tells this cluster from others on the same controller."""
    return sorted(host.endpoint for host in inventory.hosts)


def runs(inventory: Inventory, kind: str = RUN) -> Iterator[Progress]:
    """The runs of a kind on these nodes, oldest first. Raise JOURNAL_BROKEN for a journal that cannot be read."""
    for path in journals():
        journal = Journal.load(path)
        started = journal.last("started")
        if started and started["kind"] == kind and set(started["endpoints"]) & set(endpoints(inventory)):
            yield Progress(journal)


def unfinished(inventory: Inventory, kind: str = RUN) -> Progress | None:
    """The run on these nodes that may go on, or None."""
    return next((run for run in reversed(list(runs(inventory, kind))) if run.ended is None), None)


def begin(inventory: Inventory, nodes: Sequence[str], kind: str = RUN) -> Journal:
    """Begin a run. The journal is there before anything else is done."""
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


def in_order(hosts: Iterable[InventoryHost]) -> list[InventoryHost]:
    """Given nodes, return them in the order of their rebuild: workers first, the head last."""
    return sorted(hosts, key=lambda host: "head" in host.groups)


def holder(journal: Journal, step: str) -> LockHolder:
    """Who holds the lock of the nodes during a run."""
    started = next(journal.of("started"))
    return LockHolder(journal.run, started["owner"], started["controller"], os.getpid(), started["at"], step)


def write_down(tools: Tools, overrides: Mapping[str, str], *, rebootstrap: bool) -> None:
    """Write down what a person has just decided: proofs to do without, for the node that is next, and a new cluster."""
    for node in Progress(tools.journal).left[:1]:
        if overrides:
            tools.report("overridden", node=node, overrides=dict(overrides))
    if rebootstrap and not tools.journal.last(REBOOTSTRAP):
        tools.report(REBOOTSTRAP)


def refused_restore(run: Progress | None, codes: Iterable[str]) -> str:
    """The node of a run whose restore was refused for these reasons.

    Raise USAGE where it was not for one of them, or none was refused: nobody agrees to what was not said.
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


def accept(tools: Tools, codes: Sequence[str]) -> None:
    """Write down that a person goes on with a restore that was refused for this. Raise USAGE where none was."""
    if codes:
        tools.report(ACCEPTED, node=refused_restore(Progress(tools.journal), codes), codes=list(codes))


class Rebuild:
    """One run, in this process."""

    def __init__(self, tools: Tools, hooks: Hooks) -> None:
        self.tools = tools
        self.hooks = hooks
        self.progress = Progress(tools.journal)

    def carry_out(self) -> None:
        """Rebuild the nodes that are left, one after the other. Raise what stops it; it may be taken up again."""
        for name in self.progress.left:
            node = NodeRebuild(self.tools.inventory.host(name), self.tools)
            try:
                self._rebuild(node)
            except Gb10Error as error:
                self.tools.report("stopped", node=name, code=error.code, where=node.whereabouts())
                self.tools.notify(f"the rebuild of {name} has stopped: {error.summary}")
                if error.code == "NODE_LOCKED" and not self.tools.journal.last("remembered"):
                    self._leave()  # somebody else was first, and nothing was begun
                raise
        self.tools.work("unlock_nodes", "Unlock the nodes", self.tools.inventory.names, run=self.tools.journal.run)
        self.tools.report("finished", nodes=list(self.progress.nodes))
        self.tools.notify(f"{', '.join(self.progress.nodes)}: rebuilt, all is green")

    def _rebuild(self, node: NodeRebuild) -> None:
        host = node.target
        steps = Steps(host.name, self.tools.journal, self.tools.report, self.hooks, self.tools.sight.forget)
        condition = node.condition()
        self.tools.report("node-began", node=host.name, condition=condition)
        present = tuple(name for name in self.tools.inventory.names if condition != "away" or name != host.name)
        if condition != "wiped":  # else the step that lets it settle locks all of them
            self.tools.lock(present, f"prepare {host.name}")
            self.tools.sight.forget()
        if self.tools.journal.last("remembered", node=host.name):
            node.wake(present, whole=condition == "intact")
        # Which steps there are is known only after the first has written down what the node has, and after its wipe.
        if condition == "intact":
            steps.carry_out(node.steps()[:1])
        if condition != "wiped":
            planned = node.steps()
            steps.carry_out(planned[condition == "intact" : 1 + [step.destroys for step in planned].index(True)])
        steps.carry_out(node.steps())
        self.tools.report("node-done", node=host.name)
        self.tools.sight.forget()

    def give_up(self) -> list[str]:
        """Take back what can be, and end the run; return what was done. Raise NODE_AWAY for a node that is wiped."""
        said: list[str] = []
        for name in self.progress.left:
            node = NodeRebuild(self.tools.inventory.host(name), self.tools)
            if node.condition() != "intact":
                raise Gb10Error("NODE_AWAY", host=name)
            if self.tools.journal.last("remembered", node=name):
                said += node.take_back()
        self._leave(said)
        return said

    def _leave(self, undone: Sequence[str] = ()) -> None:
        """End the run without a result."""
        self.tools.work("unlock_nodes", "Unlock the nodes", self.tools.inventory.names, run=self.tools.journal.run)
        self.tools.report("aborted", undone=list(undone))
