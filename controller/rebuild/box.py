"""The machines that a person is asked to wipe: what is asked, what is seen of them, and what is back."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.arrival import (
    Arrived,
    Before,
    OnSeen,
    Seen,
    accept_host_key,
    instructions,
    judge,
    known_host_keys,
    look,
    settle_host_key,
    wait_for_wipe,
)
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.tools import Tools

PERSON_NEEDED = ("unwiped", "other-machine", "undecided", "no-login", "no-sudo")  # what does not pass by itself

Condition = Literal["intact", "wiped", "away"]


class Box:
    """One machine that a person is asked to wipe. `risks` says what is lost with that."""

    def __init__(
        self,
        roles: Roles,
        history: NodeHistory,
        notebook: Notebook,
        tools: Tools,
        risks: Callable[[], Iterable[str]],
    ) -> None:
        self.name = roles.name
        self.host = roles.target
        self.history = history
        self._notebook = notebook
        self._tools = tools
        self._risks = risks

    @property
    def _sight(self) -> Sight:
        return self._tools.sight

    @property
    def before(self) -> Before:
        """What tells the wiped machine from others."""
        return self._notebook.memory.before

    def condition(self) -> Condition:
        """Tell whether the node is as before, away, or another installation. Raise what keeps that from being known.

        A new installation that has its old host keys back already is known by them again after this.
        """
        if self.history.returned:
            settle_host_key(self.host)  # we may have been killed right after its old keys came back
            return "wiped"
        memory = self.history.memory
        if memory is None or not self.history.asked:
            self._sight.identity(self.host)
            return "intact"
        seen = judge(self.host, memory.before, look(self.host), away=False)
        return "intact" if seen.kind in ("still-there", "unwiped") else "away"

    def risks(self) -> list[str]:
        """What will not come back, as far as can be told now."""
        return list(self._risks())

    def instructions(self) -> list[str]:
        """What has to be done at the machine."""
        memory = self._notebook.memory
        return list(instructions(self.host, memory.before, memory.own_device))

    def ask(self, *, again: bool) -> None:
        """Ask for the wipe; or say `again` what has to be done for a wipe that was begun."""
        if again:
            self._tools.report("instructions", node=self.name, instructions=self.instructions())
            return
        self._tools.report("wipe-asked", node=self.name, instructions=self.instructions(), risks=self.risks())
        self._tools.person.notify(f"{self.name} may be wiped now")

    def seen(self, seen: Seen) -> None:
        """Tell everybody what is seen of the machine, and the person if it needs one."""
        self._tools.report("seen", node=self.name, **seen.to_json())
        if seen.reminder:
            return
        self._tools.journal.write("sighted", node=self.name, kind=seen.kind, text=seen.text, lines=list(seen.lines))
        if seen.kind in PERSON_NEEDED:
            self._tools.person.notify(" ".join((seen.text, *seen.lines)))

    def welcome(self, arrived: Arrived) -> None:
        """Have the person confirm the new host key of the machine that is back, and write down that it is back."""
        if known_host_keys(self.host) != (arrived.host_key,):
            self._tools.person.confirm(self.host, arrived.host_key)
            accept_host_key(self.host, arrived.host_key)
        shown = {"host_key": arrived.host_key.fingerprint, "machine_id": arrived.machine_id}
        self._tools.report("returned", node=self.name, **shown)
        self._sight.absent.discard(self.name)

    def whereabouts(self) -> list[str]:
        """How far the node is, and where its backup lies, as is written down."""
        name, backup = self.name, self.history.backup
        back = f"{name} was wiped and is back, not yet as it was" if self.history.returned else None
        places = [f"its backup {backup.backup} is on {' and '.join(backup.places)}"] if backup else []
        return [back or f"{name} may be wiped by now", *places]


def await_boxes(boxes: Sequence[Box], poll_seconds: float, meanwhile: OnSeen | None = None) -> None:
    """Wait until machines are back, in any order; a host key is confirmed as soon as one is back.

    `meanwhile` is called between two looks at a single machine. Several are watched at once.
    """
    if len(boxes) == 1:
        (box,) = boxes
        arrived = wait_for_wipe(box.host, box.before, box.seen, meanwhile=meanwhile, poll_seconds=poll_seconds)
        box.welcome(arrived)
        return
    told: queue.Queue[_Told] = queue.Queue()
    for box in boxes:
        # A daemon: Ctrl-C must not wait for a person at another machine.
        threading.Thread(target=_watch, args=(box, poll_seconds, told.put), daemon=True).start()
    waiting = {box.name for box in boxes}
    while waiting:
        next_one = told.get()
        match next_one.what:
            case Seen() as seen:
                next_one.box.seen(seen)
            case Arrived() as arrived:
                next_one.box.welcome(arrived)
                waiting.discard(next_one.box.name)
            case error:
                raise error


@dataclass(frozen=True)
class _Told:
    """What a watch tells: a change that it sees, an arrival, or the error that ended it."""

    box: Box
    what: Seen | Arrived | BaseException


def _watch(box: Box, poll_seconds: float, tell: Callable[[_Told], None]) -> None:
    def on_seen(seen: Seen) -> None:
        tell(_Told(box, seen))

    try:
        tell(_Told(box, wait_for_wipe(box.host, box.before, on_seen, poll_seconds=poll_seconds)))
    except BaseException as error:  # raised again where the arrival is waited for
        tell(_Told(box, error))
