"""Progress reports."""

from __future__ import annotations

import io
import time
from typing import IO

from gb10.programs.answer import Outlet

PROGRESS_SECONDS = 2.0


class Meter:
    """Counts bytes and reports them: {"verb", "done", "total", "seconds"}."""

    def __init__(self, outlet: Outlet, verb: str, total: int) -> None:
        self._outlet = outlet
        self._verb = verb
        self._total = total
        self._done = 0
        self._began = self._reported = time.monotonic()

    def count(self, size: int) -> None:
        """Count so many bytes more."""
        self._done += size
        now = time.monotonic()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._outlet.report(verb=self._verb, done=self._done, total=self._total, seconds=now - self._began)


class Metered(io.RawIOBase):
    """A stream whose bytes a meter counts."""

    def __init__(self, stream: IO[bytes], meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self._meter.count(len(chunk))
        return chunk
