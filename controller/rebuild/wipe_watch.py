"""The wipe of machines by a person: what is asked, what is seen meanwhile, and the node that stays.

There is no deadline: a person may go home and finish tomorrow. The watch can be stopped and started at any time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from gb10.controller.cluster.view import ClusterView
from gb10.controller.host_keys import accept_host_key, known_host_keys, settle_host_key
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.observation import (
    Observation,
    OldIdentity,
    Verdict,
    instructions,
    judge,
    look,
    reminder,
)
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target

POLL_SECONDS = 2.0
REMINDER_SECONDS = 180.0
KEEPER_SECONDS = 30.0  # between two looks at the node that stays
PERSON_NEEDED = ("unwiped", "other-machine", "undecided", "no-login", "no-sudo")  # what does not pass by itself
STILL_THERE = ("still-there", "unwiped")  # the wipe has not begun

Condition = Literal["intact", "wiped", "away"]
OnVerdict = Callable[[Verdict], None]


class Machine:
    """One machine that a person is asked to wipe. `risks` returns what is lost with that."""

    def __init__(self, target: Target, risks: Callable[[], Iterable[str]]) -> None:
        self.name = target.name
        self.host = target.host
        self.history = target.history
        self.risks = risks
        self._target = target
        self._tools = target.tools

    @property
    def old_identity(self) -> OldIdentity:
        return self._target.snapshot.identity

    def condition(self) -> Condition:
        """Return if the node is as before, away, or another installation. Raise the error that hides that.

        A new installation that has its old host keys back already is known by them again after this.
        """
        if self.history.returned:
            settle_host_key(self.host)  # we may have been killed right after its old keys came back
            return "wiped"
        snapshot = self.history.snapshot
        if snapshot is None or not self.history.asked:
            self._tools.view.identity(self.host)
            return "intact"
        verdict = judge(self.host, snapshot.identity, look(self.host), away=False)
        return "intact" if verdict.kind in STILL_THERE else "away"

    def instructions(self) -> list[str]:
        """Return what has to be done at the machine."""
        return list(instructions(self.host, self.old_identity, self._target.snapshot.own_device))

    def ask(self, *, again: bool) -> None:
        """Ask for the wipe. `again`: only repeat the instructions for a wipe that was begun."""
        if again:
            self._tools.report("instructions", node=self.name, instructions=self.instructions())
            return
        risks = list(self.risks())
        self._tools.report("wipe-asked", node=self.name, instructions=self.instructions(), risks=risks)
        self._tools.keep_journal()
        self._tools.person.notify(f"{self.name} may be wiped now")

    def report(self, verdict: Verdict) -> None:
        """Report what is seen of the machine, and notify the person if they are needed."""
        self._tools.report("seen", node=self.name, **verdict.to_json())
        if verdict.reminder:
            return
        lines = list(verdict.lines)
        self._tools.journal.write("sighted", node=self.name, kind=verdict.kind, text=verdict.text, lines=lines)
        if verdict.kind in PERSON_NEEDED:
            self._tools.person.notify(" ".join((verdict.text, *lines)))

    def accept_return(self, seen: Observation) -> None:
        """Have the person confirm the new host key of the machine that is back, and record that it is back."""
        assert seen.host_key is not None  # noqa: S101 - for mypy: else the verdict were not "wiped"
        if known_host_keys(self.host) != (seen.host_key,):
            self._tools.person.confirm(self.host, seen.host_key)
            accept_host_key(self.host, seen.host_key)
        shown = {"host_key": seen.host_key.fingerprint, "machine_id": seen.machine_id}
        self._tools.report("returned", node=self.name, **shown)
        self._tools.view.absent.discard(self.name)

    def whereabouts(self) -> list[str]:
        """Return how far the node is and where its backup lies, according to the journal."""
        back = f"{self.name} was wiped and is back, not yet as it was" if self.history.returned else None
        places = " and ".join(self.history.backup_places)
        backup = [f"its backup {self.history.backup} is on {places}"] if self.history.backup else []
        return [back or f"{self.name} may be wiped by now", *backup]


def wait_for_machines(machines: Sequence[Machine], poll_seconds: float, between: OnVerdict | None = None) -> None:
    """Wait until machines are back, in any order. A host key is confirmed as soon as its machine is back.

    `between` is called between two looks at a single machine. Several are watched at once.
    """
    if len(machines) == 1:
        (machine,) = machines
        host, old = machine.host, machine.old_identity
        verdict = wait_for_wipe(host, old, machine.report, between=between, poll_seconds=poll_seconds)
        machine.accept_return(verdict.observation)
        return
    seen: queue.Queue[tuple[Machine, Verdict | BaseException]] = queue.Queue()
    for machine in machines:
        # A daemon, so that Ctrl-C does not wait for a person at another machine.
        threading.Thread(target=_watch, args=(machine, poll_seconds, seen), daemon=True).start()
    waiting = {machine.name for machine in machines}
    while waiting:
        machine, found = seen.get()
        if isinstance(found, BaseException):
            raise found
        machine.report(found)
        if found.kind == "wiped":
            machine.accept_return(found.observation)
            waiting.discard(machine.name)


def _watch(machine: Machine, poll_seconds: float, seen: queue.Queue[tuple[Machine, Verdict | BaseException]]) -> None:
    def on_verdict(verdict: Verdict) -> None:
        seen.put((machine, verdict))

    try:
        wait_for_wipe(machine.host, machine.old_identity, on_verdict, poll_seconds=poll_seconds)
    except BaseException as error:  # raised again by wait_for_machines
        seen.put((machine, error))


def wait_for_wipe(
    host: InventoryHost,
    old: OldIdentity,
    on_verdict: OnVerdict,
    *,
    between: OnVerdict | None = None,
    poll_seconds: float = POLL_SECONDS,
    reminder_seconds: float = REMINDER_SECONDS,
    look: Callable[[InventoryHost], Observation] = look,
) -> Verdict:
    """Watch a node until it is another installation of the same machine that lets us in. Return that verdict.

    + on_verdict: called with every change, and every `reminder_seconds` with a reminder
    + between: called after each look
    """
    last: Verdict | None = None
    reported_at = time.monotonic()
    away = False
    while True:
        verdict = judge(host, old, look(host), away)
        away = away or verdict.kind == "gone"
        if last is None or (verdict.kind, verdict.lines) != (last.kind, last.lines):
            on_verdict(verdict)
            last, reported_at = verdict, time.monotonic()
        elif time.monotonic() - reported_at >= reminder_seconds:
            on_verdict(reminder(host, old, verdict))
            reported_at = time.monotonic()
        if verdict.kind == "wiped":
            return verdict
        if between:
            between(verdict)
        time.sleep(poll_seconds)


class KeeperWatch:
    """Looks at the node that stays from time to time while the other one is wiped, and reports when it changes."""

    def __init__(self, target: Target, look: Callable[[], Evidence], seconds: float = KEEPER_SECONDS) -> None:
        self._target, self._keeper = target.name, target.keeper.name
        self._tools = target.tools
        self._look = look
        self._seconds = seconds
        self._next = 0.0
        self._well = True

    def __call__(self, verdict: Verdict) -> None:
        """Look, if it is time. If the keeper has changed, say what to do. `verdict` is that of the wiped node."""
        if time.monotonic() < self._next:
            return
        found = self._look()
        self._next = time.monotonic() + self._seconds
        if found.holds == self._well:
            return
        self._well = found.holds
        text = self._advice(found, intact=verdict.kind in STILL_THERE)
        self._tools.report("keeper", node=self._target, keeper=self._keeper, well=found.holds, text=text)
        self._tools.person.notify(text)

    def _advice(self, found: Evidence, *, intact: bool) -> str:
        target, keeper = self._target, self._keeper
        if found.holds:
            return f"{keeper} is well again: {target} may be wiped" if intact else f"{keeper} is well again"
        if intact:
            return f"do NOT wipe {target} now: {keeper}, which is to stand in for it, is not well ({found.text})"
        return f"{keeper}, which stands in for {target}, is not well ({found.text}): look after it, {target} can wait"


def answers(host: InventoryHost, view: ClusterView) -> Evidence:
    """Return the evidence that a host answers now."""
    trouble = view.trouble(host)
    return Evidence(trouble is None, trouble or f"{host.name} answers")
