"""The sender of a copy: several streams over each rail. If a rail fails, the others go on.

Large files go in pieces over whatever stream is free, so a single file fills all rails. Small files go in bundles over
the same streams. Files that may be the same already go by rsync, which sends the difference. At the end one more rsync
makes everything visible: folders, links, further names and attributes.

It reports its progress, {"sent", "total", "seconds", "rails"}, and lost rails, {"lost_rail"}.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.copying.protocol import ANSWERS
from gb10.programs.copying.sending.control import Control
from gb10.programs.copying.sending.course import Course
from gb10.programs.copying.sending.rails import Rail
from gb10.programs.copying.sending.rsync import Rsync
from gb10.programs.copying.sending.streams import Streams
from gb10.programs.copying.sending.work import Work

BEAT_SECONDS = 1.0
WAIT_SECONDS = 0.1
NAMED = 5  # faults in an error text
F_SETPIPE_SZ = 1031  # fcntl(2)


class Sender:
    """One copy."""

    def __init__(self, job: dict[str, Any], outlet: Outlet) -> None:
        self._job = job
        self._outlet = outlet
        self._rails = [Rail(way) for way in job["rails"]]
        self._course = Course()
        self._work = Work(job["root"], job["large"], self._rails, self._course)
        self._rsync = Rsync(job, self._rails, self._course)
        self._control = Control(job, self._rails, self._work, self._course, outlet)
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
        if found := self._course.complaints:
            raise RefusedError("COPY_FAILED", f"on {self._job['peer']}: {'; '.join(found[:NAMED])}")
        if found := self._course.troubles:
            raise RefusedError("SOURCE_CHANGED", "; ".join(found[:NAMED]))

    def _result(self) -> dict[str, Any]:
        return {
            "sent": sum(rail.sent for rail in self._rails),
            "wire": self._course.wire,
            "resumed": self._work.resumed,
            "seconds": round(time.monotonic() - self._began, 3),
            "rails": {rail.name: rail.sent for rail in self._rails},
            "lost_rails": [rail.name for rail in self._rails if not rail.alive],
        }

    def _ask(self, word: str) -> Any:
        """Send a word over every rail that is alive and wait for the answer."""
        self._control.tell({"do": word})
        self._wait(lambda: ANSWERS[word] in self._control.answers)
        return self._control.answers[ANSWERS[word]]

    def _start_threads(self) -> None:
        for paths in self._job["compared"]:
            self._rsync.queue(paths)
        alive = [rail for rail in self._rails if rail.alive]
        streams = Streams(self._job["secret"].encode(), self._work, self._course)
        # While one stream waits for the target's disk, another one sends. More streams than cores only slow each other
        # down. An rsync waits often, so there are more of them.
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
            with self._course.changed:
                if self._course.fatal:
                    raise self._course.fatal
                if condition():
                    return
                self._course.changed.wait(WAIT_SECONDS)
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                named = {name: self._job[name] for name in ("total", "peer")}
                self._control.beat({**named, "source": self._job["root"], **self._result()})
            if now - self._reported >= self._job["every"]:
                self._reported = now
                told = ("sent", "seconds", "rails")
                self._outlet.report(total=self._job["total"], **{key: self._result()[key] for key in told})


def interrupted(*_: object) -> NoReturn:
    """End the copy after a signal."""
    raise RefusedError("INTERRUPTED", "the copy was stopped; what has arrived is kept")


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Send what the job names; return how many bytes, in all and by rail."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    # all files of a bundle are open while a stream sends it
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # with a small pipe the copy would wait for a slow reader of its reports
    with contextlib.suppress(OSError):
        fcntl.fcntl(sys.stdout.fileno(), F_SETPIPE_SZ, 1 << 20)
    return Sender(job, outlet).run()
