"""The control connections to the receiver, one for each rail."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.copying.protocol import TurnedAwayError
from gb10.programs.copying.sending.course import Course
from gb10.programs.copying.sending.rails import Rail
from gb10.programs.copying.sending.work import Work

DEAD_BEATS = 10  # a rail on which so many were not answered is gone; seconds may pass while this machine stands still


class Control:
    """Talks with the receiver and watches the rails.

    + job: peer (name of the node), unit (of the receiver)
    """

    def __init__(self, job: dict[str, Any], rails: list[Rail], work: Work, course: Course, outlet: Outlet) -> None:
        self.answers: dict[str, Any] = {}
        self._job = job
        self._rails = rails
        self._work = work
        self._course = course
        self._outlet = outlet
        self._number = 0  # of the last beat

    def connect(self, secret: bytes) -> None:
        """Open a connection over each rail. Raise RefusedError if none holds."""
        reasons, refused = [], False
        for rail in self._rails:
            try:
                rail.control = rail.connect("control", secret)
            except OSError as error:
                refused = refused or isinstance(error, TurnedAwayError)
                reasons.append(f"{rail.way['peer']} over rail {rail.name}: {error}")
                continue
            rail.alive = True
            threading.Thread(target=self._listen, args=(rail, rail.control), daemon=True).start()
        if not any(rail.alive for rail in self._rails):
            why = "; ".join(reasons)
            if refused:
                raise RefusedError("COPY_REFUSED", f"the receiver on {self._job['peer']} refuses us: {why}")
            raise RefusedError("RAIL_DOWN", f"the receiver cannot be reached: {why}")

    def tell(self, word: dict[str, Any]) -> None:
        """Send a word over every rail that is alive."""
        for rail in self._rails:
            if rail.alive:
                rail.tell(word)

    def beat(self, progress: dict[str, Any]) -> None:
        """Send a heartbeat with the progress over each rail; give up rails that are dead.

        Raise RefusedError if the copy cannot go on.
        """
        self._number += 1
        alive = [rail for rail in self._rails if rail.alive]
        if alive and all(rail.is_closed for rail in alive):
            why = f"there, sudo journalctl --unit={self._job['unit']} says why"
            text = f"the receiver on {self._job['peer']} ended before the copy did: {why}"
            raise RefusedError("COPY_FAILED", text)
        for rail in alive:
            if self._number - rail.answered > DEAD_BEATS or rail.has_no_carrier():
                self._lose(rail)
            else:
                rail.tell({"do": "beat", "number": self._number, "progress": progress})
        if not any(rail.alive for rail in self._rails):
            raise RefusedError("RAIL_DOWN", "no rail carries anything any more; what has arrived is kept")
        if path := self._work.overdue():
            raise RefusedError("COPY_FAILED", f"{path!r} does not get onto the target's disk")

    def _lose(self, rail: Rail) -> None:
        self._outlet.report(lost_rail=rail.name)
        rail.fail()
        with self._course.changed:
            self._course.changed.notify_all()
        self._work.request_completions()

    def _listen(self, rail: Rail, control: socket.socket) -> None:
        """Read the answers of the receiver until the connection ends."""
        hung_up = True
        try:
            for line in control.makefile("rb"):
                answer = json.loads(line)
                rail.answered = answer.get("beat", rail.answered)
                self._hear(answer)
        except ConnectionResetError:
            pass
        except (OSError, ValueError):
            hung_up = False
        with self._course.changed:
            closed = rail.alive and "ended" not in self.answers
        if closed:
            rail.is_closed = hung_up  # a rail that is down does not close a connection
            rail.give_up_soon()

    def _hear(self, answer: dict[str, Any]) -> None:
        if "completed" in answer:
            self._work.completed(answer["completed"])
        elif "failed" in answer:
            self._course.fail(RefusedError(answer["code"], answer["reason"]))
        else:
            with self._course.changed:
                self.answers |= answer
                self._course.changed.notify_all()
