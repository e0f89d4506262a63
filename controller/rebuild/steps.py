"""Steps of a long piece of work, each of which can be killed, and the whole be run again.

A step is done when its `verify` holds: facts decide, not what the journal says that was done. So a run that is taken up
again is the same list of steps, of which those that hold are passed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal
from gb10.controller.rebuild.hooks import Hooks

POLL_SECONDS = 2.0
AWAY = ("NODE_UNREACHABLE", "SSH_AUTH")  # how a node that is just being booted appears

# Whose time it takes: ours, that of data on their way, of a model being loaded, or of a person.
Kind = Literal["own", "copy", "load", "human"]


@dataclass(frozen=True)
class Evidence:
    """Whether what a step is for can be seen, and what was seen, in a line."""

    holds: bool
    text: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step. `plan` says what it will do now, `undo` takes back what can be and says so."""

    name: str
    title: str
    plan: Callable[[], str]
    verify: Callable[[], Evidence]
    run: Callable[[], None] | None = None  # None: there is nothing to do but to wait until it holds
    undo: Callable[[], str | None] | None = None
    kind: Kind = "own"
    destroys: bool = False
    patience_seconds: float = 0.0  # how long it may take after `run` until it holds
    looks_first: bool = True  # False: what a first run will find is known, and looking is dear


class Report(Protocol):
    """Who hears what goes on."""

    def __call__(self, event: str, /, **details: Any) -> None: ...


class Steps:
    """Carries out the steps for one node, and writes down how far it is."""

    def __init__(self, node: str, journal: Journal, report: Report, hooks: Hooks, forget: Callable[[], None]) -> None:
        self.node = node
        self.journal = journal
        self._report = report
        self._hooks = hooks
        self._forget = forget  # what was seen of the nodes is not true any more

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Carry out those steps that do not hold yet, in order. Raise what stops one of them."""
        for step in steps:
            try:
                self._carry_out(step)
            except Gb10Error as error:
                self._report("step-failed", node=self.node, step=step.name, code=error.code, reason=error.summary)
                raise
            except KeyboardInterrupt:
                self._report("step-interrupted", node=self.node, step=step.name)
                raise

    def _carry_out(self, step: Step) -> None:
        began_before = self.journal.last("step-began", node=self.node, step=step.name) is not None
        if step.looks_first or began_before:
            evidence, _ = _look(step)
            if evidence.holds:
                self._tell("step-held", step, evidence)
                return
        self._hooks.call("before", step.name, self.node)
        self._report("step-began", node=self.node, step=step.name, title=step.title, kind=step.kind)
        started = time.monotonic()
        if step.run:
            step.run()
            self._forget()
        evidence = self._await(step)
        if not evidence.holds:
            raise Gb10Error("STEP_UNPROVEN", f"{step.title}: {evidence.text}")
        self._tell("step-done", step, evidence, seconds=round(time.monotonic() - started, 2))
        self._hooks.call("after", step.name, self.node)

    def _await(self, step: Step) -> Evidence:
        """Wait until a step holds, as long as it may take. Raise what keeps that from being seen to the end."""
        deadline = time.monotonic() + step.patience_seconds
        said = ""
        while True:
            evidence, error = _look(step)
            late = time.monotonic() > deadline
            if late and error:
                raise error
            if evidence.holds or late:
                return evidence
            if evidence.text != said:
                said = evidence.text
                self._report("waiting", node=self.node, step=step.name, text=said)
            time.sleep(POLL_SECONDS)
            self._forget()

    def _tell(self, event: str, step: Step, evidence: Evidence, **more: Any) -> None:
        self._report(
            event,
            node=self.node,
            step=step.name,
            title=step.title,
            kind=step.kind,
            evidence=evidence.text,
            details=evidence.details,
            **more,
        )


def _look(step: Step) -> tuple[Evidence, Gb10Error | None]:
    """Whether a step holds. For one that may take its time a node that does not answer may just be booting."""
    try:
        return step.verify(), None
    except Gb10Error as error:
        if error.code not in AWAY or not step.patience_seconds:
            raise
        return Evidence(False, error.summary), error


def undo(steps: Sequence[Step]) -> Iterable[str]:
    """Take back what can be, the last first; yield what was done."""
    for step in reversed(steps):
        if step.undo and (said := step.undo()):
            yield said


def seconds_last_time(journals: Iterable[Journal], node: str) -> dict[str, float]:
    """Given journals, oldest first, return how long each step of a node took when it was last done."""
    done = (record for journal in journals for record in journal.of("step-done", node=node))
    return {record["step"]: float(record["seconds"]) for record in done}
