"""Steps of a rebuild, and the runner that carries them out. A run may be killed in any step and started again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Literal

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.tools import Tools
from gb10.controller.waiting import wait_until

AWAY = ("NODE_UNREACHABLE", "SSH_AUTH")  # errors of a node that boots
ALL = "all"  # stands for all nodes in the journal
SHOWN = 4  # names that are listed before the rest is counted

# What takes the time of a step: our own work, a copy, the loading of a model, or a person.
Kind = Literal["own", "copy", "load", "human"]


@dataclass(frozen=True)
class Evidence:
    """Evidence that a step is done or not, in one line of text."""

    holds: bool
    text: str
    details: Mapping[str, str | None] = field(default_factory=dict)


class Step(ABC):
    """One step.

    It is done when `verify` says so: facts decide, not the journal. So a resumed run is the same list of steps and
    skips those that are done.
    """

    name: str  # in the journal, in events and in the plan
    title: str  # for a person
    kind: Kind = "own"
    destroys: bool = False
    looks_first: bool = True  # False: `verify` is expensive and would always fail in a first run

    @property
    def patience_seconds(self) -> float:
        """How long to wait after `run` until the step is done."""
        return 0.0

    @abstractmethod
    def plan(self) -> str:
        """Describe what `run` would do now."""

    @abstractmethod
    def verify(self) -> Evidence:
        """Check if the step is done."""

    def run(self) -> None:  # noqa: B027 - some steps only wait
        """Do the step. By default do nothing, so that the runner only waits until the step is done."""

    def undo(self) -> str | None:
        """Undo the step and describe what was undone; None if nothing was."""
        return None


def undo(steps: Sequence[Step]) -> Iterator[str]:
    """Undo steps, the last one first. Yield what was undone."""
    for step in reversed(steps):
        if undone := step.undo():
            yield undone


class StepRunner:
    """Carries out the steps of one node and records the progress. `node` is its name in the journal."""

    def __init__(self, node: str, tools: Tools) -> None:
        self.node = node
        self._tools = tools

    def run(self, steps: Iterable[Step]) -> None:
        """Run the steps that are not done yet, in order. Raise the error that stops one of them."""
        for step in steps:
            try:
                self._run(step)
            except Gb10Error as error:
                self._report("step-failed", step, code=error.code, reason=error.summary)
                raise
            except KeyboardInterrupt:
                self._report("step-interrupted", step)
                raise

    def _run(self, step: Step) -> None:
        described = {"title": step.title, "kind": step.kind}
        began_before = self._tools.journal.last("step-began", node=self.node, step=step.name) is not None
        if step.looks_first or began_before:
            evidence = _first_look(step)
            if evidence.holds:
                self._report("step-held", step, **described, evidence=evidence.text, details=dict(evidence.details))
                return
        self._tools.hooks.call("before", step.name, self.node)
        self._report("step-began", step, **described)
        started = time.monotonic()
        step.run()
        self._tools.view.forget()
        evidence = self._await(step)
        if not evidence.holds:
            raise Gb10Error("STEP_UNPROVEN", f"{step.title}: {evidence.text}")
        found = {"evidence": evidence.text, "details": dict(evidence.details)}
        self._report("step-done", step, **described, **found, seconds=round(time.monotonic() - started, 2))
        self._tools.keep_journal()
        self._tools.hooks.call("after", step.name, self.node)

    def _await(self, step: Step) -> Evidence:
        """Wait until a step is done, for at most its patience. A node that does not answer may be booting."""
        tell = self._tools.report.waits(node=self.node, step=step.name)

        def between(seen: Evidence | Gb10Error) -> None:
            tell(seen.summary if isinstance(seen, Gb10Error) else seen.text)
            self._tools.view.forget()

        return wait_until(
            step.verify,
            lambda evidence: evidence.holds,
            seconds=step.patience_seconds,
            poll_seconds=self._tools.poll_seconds,
            passing=AWAY,
            between=between,
        )

    def _report(self, event: str, step: Step, **details: Any) -> None:
        self._tools.report(event, node=self.node, step=step.name, **details)


def _first_look(step: Step) -> Evidence:
    """Check if a step is done. A step with patience is not done while its node cannot be asked."""
    try:
        return step.verify()
    except Gb10Error as error:
        if error.code not in AWAY or not step.patience_seconds:
            raise
        return Evidence(False, error.summary)


def count(things: Sized, what: str) -> str:
    """Return a number of things in words: "1 model", "2 models"."""
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def first_names(names: Iterable[str]) -> str:
    """Return the first names, and the number of the others: "a, b, c, d and 2 more"."""
    found = list(names)
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
