"""Connections that carry files."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from gb10.programs.answer import RefusedError
from gb10.programs.copying.protocol import ARRIVED, BUNDLE, EXTENT, FRAME, received
from gb10.programs.copying.receiving.intake import Intake
from gb10.programs.copying.receiving.target import Target


class Streams:
    """The open data connections.

    + folder: for incomplete files
    + give_up: called with an index and an error if the copy cannot go on
    """

    def __init__(self, target: Target, folder: str, give_up: Callable[[int, Exception], None]) -> None:
        self._target = target
        self._folder = folder
        self._give_up = give_up
        self._streams: set[socket.socket] = set()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        return bool(self._streams)

    def serve(self, stream: socket.socket) -> None:
        """Receive files until the connection ends."""
        with self._lock:
            self._streams.add(stream)
        # Each stream has a folder of its own: streams that create files in one folder wait for each other.
        intake = Intake(stream, os.path.join(self._folder, f"stream-{next(self._numbers)}"))
        try:
            self._take_files(intake)
        finally:
            intake.close()
            with self._lock:
                self._streams.discard(stream)

    def _take_files(self, intake: Intake) -> None:
        while frame := received(intake.stream, FRAME.size):
            index, offset, length, count = FRAME.unpack(frame)
            try:
                if index == BUNDLE:
                    for wanted in json.loads(received(intake.stream, offset)):
                        self._target.take_small(intake, wanted)
                else:
                    extents = [EXTENT.unpack(received(intake.stream, EXTENT.size)) for _ in range(count)]
                    self._target.take_piece(intake, index, (offset, length), extents)
            except ConnectionError:
                raise
            except (RefusedError, OSError) as error:
                self._give_up(index, error)
                raise
            intake.stream.sendall(ARRIVED)

    def stop(self) -> None:
        """End all connections."""
        with self._lock:
            for stream in self._streams:
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
