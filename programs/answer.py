"""The messages of a program to the controller: a refusal, a report, bytes of a stream."""

from __future__ import annotations

import base64
import json
import struct
import sys
import threading
import zlib
from typing import Any, BinaryIO

DEFLATED_FROM = 1 << 15  # bytes: longer answers are compressed
CHUNK = 1 << 18


class RefusedError(Exception):
    """A refusal: a code of the error catalogue and what happened."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = " ".join(reason.split())


class Outlet:
    """The output of a program to the controller. Each line of it begins with a mark that only the two know.

    With a stream of bytes, standard output has chunks, each after its length, and the lines go to standard error.
    """

    def __init__(self, mark: str, limit: int, streams: bool = False) -> None:
        self._mark = mark.encode()
        self._limit = limit
        self._lines: BinaryIO = sys.stderr.buffer if streams else sys.stdout.buffer
        self._lock = threading.Lock()
        if streams:
            self._put(sys.stdout.buffer, b"\n" + self._mark + b"\n")

    def report(self, **details: Any) -> None:
        """Report progress. Raise BrokenPipeError if nobody reads any more."""
        self.say("report", details)

    def say(self, kind: str, document: Any) -> None:
        """Send one line: "report", "refused" or "answer", with a JSON value."""
        text = json.dumps(document).encode()
        if len(text) > self._limit:
            reason = f"its answer has {len(text)} bytes, and may have {self._limit}"
            kind, text = "refused", json.dumps(["NODE_ANSWER", reason]).encode()
        if len(text) > DEFLATED_FROM:
            kind, text = f"{kind}/deflated", base64.b64encode(zlib.compress(text, 1))
        self._put(self._lines, b"\n" + b" ".join([self._mark, kind.encode(), text]) + b"\n")

    def write(self, data: bytes | memoryview) -> int:
        """Send bytes of the stream. Return their number."""
        view = memoryview(data).cast("B")
        for at in range(0, len(view), CHUNK):
            part = view[at : at + CHUNK]
            self._put(sys.stdout.buffer, struct.pack("!I", len(part)), part)
        return len(view)

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""

    def end_stream(self) -> None:
        """Mark the end of the stream: without it the stream is incomplete."""
        self._put(sys.stdout.buffer, struct.pack("!I", 0))

    def _put(self, stream: BinaryIO, *parts: bytes | memoryview) -> None:
        with self._lock:
            for part in parts:
                stream.write(part)
            stream.flush()
