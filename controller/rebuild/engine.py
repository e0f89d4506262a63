"""Carry out steps. A run may be killed in any of them and be started again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.reporting import Report, said_once
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.waiting import wait_until

POLL_SECONDS = 2.0
AWAY = ("NODE_UNREACHABLE", "SSH_AUTH")  # what is seen of a node while it boots


class Engine:
    """Carries out the steps of one node, and writes down how far it is."""

    def __init__(
        self,
        node: str,
        journal: Journal,
        report: Report,
        hooks: Hooks,
        forget: Callable[[], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.node = node
        self._journal = journal
        self._report = report
        self._hooks = hooks
        self._forget = forget  # called when what was seen of the nodes is no longer true
        self._poll_seconds = poll_seconds

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Carry out the steps that do not hold yet, in order. Raise the error that stops one of them."""
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
        began_before = self._journal.last("step-began", node=self.node, step=step.name) is not None
        if step.looks_first or began_before:
            evidence = _look(step)
            if evidence.holds:
                self._tell("step-held", step, evidence)
                return
        self._hooks.call("before", step.name, self.node)
        self._report("step-began", node=self.node, step=step.name, title=step.title, kind=step.kind)
        started = time.monotonic()
        step.run()
        self._forget()
        evidence = self._await(step)
        if not evidence.holds:
            raise Gb10Error("STEP_UNPROVEN", f"{step.title}: {evidence.text}")
        self._tell("step-done", step, evidence, seconds=round(time.monotonic() - started, 2))
        self._hooks.call("after", step.name, self.node)

    def _await(self, step: Step) -> Evidence:
        """Wait until a step holds, as long as it may take. A node that does not answer may just be booting."""
        say = said_once(lambda text: self._report("waiting", node=self.node, step=step.name, text=text))

        def between(seen: Evidence | Gb10Error) -> None:
            say(seen.summary if isinstance(seen, Gb10Error) else seen.text)
            self._forget()

        return wait_until(
            step.verify,
            lambda evidence: evidence.holds,
            seconds=step.patience_seconds,
            poll_seconds=self._poll_seconds,
            passing=AWAY,
            between=between,
        )

    def _tell(self, event: str, step: Step, evidence: Evidence, **more: Any) -> None:
        self._report(
            event,
            node=self.node,
            step=step.name,
            title=step.title,
            kind=step.kind,
            evidence=evidence.text,
            details=dict(evidence.details),
            **more,
        )


def _look(step: Step) -> Evidence:
    """Look whether a step holds. A step that is allowed time does not hold while its node cannot be asked."""
    try:
        return step.verify()
    except Gb10Error as error:
        if error.code not in AWAY or not step.patience_seconds:
            raise
        return Evidence(False, error.summary)
