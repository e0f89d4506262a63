"""The sender of a copy: several streams over each rail. If a rail fails, the others go on.

Large files go in pieces over any free stream, so that a single file fills all rails. Small files go in bundles over the
same streams. Files that may be the same already go by rsync, which sends the difference. At the end one more rsync
makes everything visible: folders, links, further names and attributes.

It reports its progress, {"sent", "total", "seconds", "rails"}, and lost rails, {"lost_rail"}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.copying.protocol import ANSWERS, RejectedError
from gb10.programs.copying.sending.rails import CopyState, Rail
from gb10.programs.copying.sending.rsync import Rsync
from gb10.programs.copying.sending.streams import Streams, WorkQueue

BEAT_SECONDS = 1.0
WAIT_SECONDS = 0.1
NAMED = 5  # faults in an error text
F_SETPIPE_SZ = 1031  # fcntl(2)
DEAD_BEATS = 10  # unanswered ones after which a rail is dead: this machine may be too busy for some seconds


class Sender:
    """One copy."""

    def __init__(self, job: dict[str, Any], outlet: Outlet) -> None:
        self._job = job
        self._outlet = outlet
        self._rails = [Rail(way) for way in job["rails"]]
        self._state = CopyState()
        self._work = WorkQueue(job["root"], job["large"], self._rails, self._state)
        self._rsync = Rsync(job, self._rails, self._state)
        self._control = Control(job, self._rails, self._work, self._state, outlet)
        self._began = time.monotonic()
        self._reported = 0.0

    def run(self) -> dict[str, Any]:
        """Copy; return the result. Raise RefusedError."""
        try:
            self._control.connect(self._job["secret"].encode())
            self._work.plan(self._ask("hello"), self._job["small"])
            self._start_threads()
            self._wait(lambda: self._work.is_done and self._rsync.is_done)
            if self._job["references"]:
                self._ask("note")
            self._rsync.queue(self._job["finish"], finish=True)
            self._wait(lambda: self._rsync.is_done)
            self._raise_faults()
            self._ask("end")
            return self._result()
        finally:
            for rail in self._rails:
                rail.fail()

    def _raise_faults(self) -> None:
        if found := self._state.target_faults:
            raise RefusedError("COPY_FAILED", f"on {self._job['peer']}: {'; '.join(found[:NAMED])}")
        if found := self._state.source_faults:
            raise RefusedError("SOURCE_CHANGED", "; ".join(found[:NAMED]))

    def _result(self) -> dict[str, Any]:
        return {
            "sent": sum(rail.sent for rail in self._rails),
            "wire": self._state.wire,
            "resumed": self._work.resumed,
            "seconds": round(time.monotonic() - self._began, 3),
            "rails": {rail.name: rail.sent for rail in self._rails},
            "lost_rails": [rail.name for rail in self._rails if not rail.alive],
        }

    def _ask(self, request: str) -> Any:
        """Send a request over every rail that is alive; return the answer."""
        self._control.send({"do": request})
        self._wait(lambda: ANSWERS[request] in self._control.answers)
        return self._control.answers[ANSWERS[request]]

    def _start_threads(self) -> None:
        for paths in self._job["compared"]:
            self._rsync.queue(paths)
        alive = [rail for rail in self._rails if rail.alive]
        streams = Streams(self._job["secret"].encode(), self._work, self._state)
        # While one stream waits for the target's disk, another one sends. More streams than cores slow each other down.
        # An rsync waits often, so there are more of them.
        busy = min(self._job["streams"], max(2, (os.cpu_count() or 1) // len(alive)))
        for number in range(self._job["streams"]):
            for rail in alive:
                if self._work.is_queued and number < busy:
                    threading.Thread(target=streams.run, args=(rail,), daemon=True).start()
                first = alive[(alive.index(rail) + number) % len(alive)]
                threading.Thread(target=self._rsync.run, args=(first,), daemon=True).start()

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Send heartbeats and report the progress until a condition holds."""
        next_beat = 0.0
        while True:
            with self._state.changed:
                if self._state.fatal:
                    raise self._state.fatal
                if condition():
                    return
                self._state.changed.wait(WAIT_SECONDS)
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                named = {name: self._job[name] for name in ("total", "peer")}
                self._control.beat({**named, "source": self._job["root"], **self._result()})
            if now - self._reported >= self._job["every"]:
                self._reported = now
                keys = ("sent", "seconds", "rails")
                self._outlet.report(total=self._job["total"], **{key: self._result()[key] for key in keys})


class Control:
    """The control connections to the receiver, one for each rail; watches the rails.

    + job: peer (name of the node), unit (of the receiver)
    """

    def __init__(
        self, job: dict[str, Any], rails: list[Rail], work: WorkQueue, state: CopyState, outlet: Outlet
    ) -> None:
        self.answers: dict[str, Any] = {}
        self._job = job
        self._rails = rails
        self._work = work
        self._state = state
        self._outlet = outlet
        self._number = 0  # of the last beat

    def connect(self, secret: bytes) -> None:
        """Open a connection over each rail. Raise RefusedError if no rail works."""
        reasons, refused = [], False
        for rail in self._rails:
            try:
                rail.control = rail.connect("control", secret)
            except OSError as error:
                refused = refused or isinstance(error, RejectedError)
                reasons.append(f"{rail.way['peer']} over rail {rail.name}: {error}")
                continue
            rail.alive = True
            threading.Thread(target=self._listen, args=(rail, rail.control), daemon=True).start()
        if not any(rail.alive for rail in self._rails):
            why = "; ".join(reasons)
            if refused:
                raise RefusedError("COPY_REFUSED", f"the receiver on {self._job['peer']} refuses us: {why}")
            raise RefusedError("RAIL_DOWN", f"the receiver cannot be reached: {why}")

    def send(self, request: dict[str, Any]) -> None:
        """Send a request over every rail that is alive."""
        for rail in self._rails:
            if rail.alive:
                rail.send(request)

    def beat(self, progress: dict[str, Any]) -> None:
        """Send a heartbeat with the progress over each rail; give up dead rails.

        Raise RefusedError if the copy cannot continue.
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
                rail.send({"do": "beat", "number": self._number, "progress": progress})
        if not any(rail.alive for rail in self._rails):
            raise RefusedError("RAIL_DOWN", "no rail carries anything any more; what has arrived is kept")
        if path := self._work.overdue():
            raise RefusedError("COPY_FAILED", f"{path!r} does not get onto the target's disk")

    def _lose(self, rail: Rail) -> None:
        self._outlet.report(lost_rail=rail.name)
        rail.fail()
        with self._state.changed:
            self._state.changed.notify_all()
        self._work.request_completions()

    def _listen(self, rail: Rail, control: socket.socket) -> None:
        """Read the answers of the receiver until the connection ends."""
        hung_up = True
        try:
            for line in control.makefile("rb"):
                answer = json.loads(line)
                rail.answered = answer.get("beat", rail.answered)
                self._handle(answer)
        except ConnectionResetError:
            pass
        except (OSError, ValueError):
            hung_up = False
        with self._state.changed:
            closed = rail.alive and "ended" not in self.answers
        if closed:
            rail.is_closed = hung_up  # by the receiver: a rail that is down does not close a connection
            rail.give_up_soon()

    def _handle(self, answer: dict[str, Any]) -> None:
        if "completed" in answer:
            self._work.completed(answer["completed"])
        elif "failed" in answer:
            self._state.fail(RefusedError(answer["code"], answer["reason"]))
        else:
            with self._state.changed:
                self.answers |= answer
                self._state.changed.notify_all()


def interrupted(*_: object) -> NoReturn:
    """End the copy after a signal."""
    raise RefusedError("INTERRUPTED", "the copy was stopped; what has arrived is kept")


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Send the files of the job; return the number of bytes, in all and by rail."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    # while a stream sends a bundle, all files of it are open
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # with a small pipe the copy would wait for a slow reader of the reports
    with contextlib.suppress(OSError):
        fcntl.fcntl(sys.stdout.fileno(), F_SETPIPE_SZ, 1 << 20)
    return Sender(job, outlet).run()
