"""The progress of a program that reads or writes many bytes."""

from __future__ import annotations

import threading
import time

from gb10.programs.answer import Outlet

PROGRESS_SECONDS = 2.0


class Meter:
    """Counts bytes and reports the progress: {"verb", "done", "total", "seconds"}. Threads may share it."""

    def __init__(self, outlet: Outlet, verb: str, total: int) -> None:
        self._outlet = outlet
        self._verb = verb
        self._total = total
        self._done = 0
        self._began = self._reported = time.monotonic()
        self._lock = threading.Lock()

    def count(self, size: int) -> None:
        with self._lock:
            self._done += size
            now = time.monotonic()
            if now - self._reported < PROGRESS_SECONDS:
                return
            self._reported = now
            done = self._done
        self._outlet.report(verb=self._verb, done=done, total=self._total, seconds=now - self._began)
