"""Streams: each sends pieces and bundles over its rail, one after the other."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from gb10.programs.copying.protocol import ARRIVED, BUNDLE, EXTENT, FRAME, Range, Wanted
from gb10.programs.copying.sending.course import Course
from gb10.programs.copying.sending.rails import Rail
from gb10.programs.copying.sending.work import Piece, Work, is_same

MSG_MORE = 0x8000  # send(2): more follows at once
SENDFILE_BYTES = 4 << 20
ATTEMPTS = 5  # of a connection, before its rail is given up
PAUSE_SECONDS = 0.2


class Streams:
    """Sends files; each stream runs `run` in a thread of its own."""

    def __init__(self, secret: bytes, work: Work, course: Course) -> None:
        self._secret = secret
        self._work = work
        self._course = course

    def run(self, rail: Rail) -> None:
        """Send over a rail until there is nothing left for it."""
        stream: socket.socket | None = None
        failures = 0
        try:
            while work := self._work.take(rail):
                try:
                    stream = stream or rail.connect("data", self._secret)
                    if isinstance(work, tuple):
                        self._send_piece(rail, stream, work)
                    else:
                        self._send_bundle(rail, stream, work)
                    failures = 0
                except OSError:
                    self._work.put_back(work)
                    stream, failures = None, failures + 1
                    if failures >= ATTEMPTS:
                        rail.give_up_soon()
                        return
                    time.sleep(PAUSE_SECONDS)
        except BaseException as error:  # of any kind: the copy must not wait for this thread
            self._course.fail(error)

    def _send_bundle(self, rail: Rail, stream: socket.socket, bundle: list[Wanted]) -> None:
        """Send small files that have not changed; note the others as troubles."""
        with contextlib.ExitStack() as opened:
            files = []
            for wanted in bundle:
                try:
                    descriptor = self._open(wanted)
                except OSError as error:
                    self._course.trouble(f"{wanted['path']!r} cannot be read any more ({error.strerror})")
                    continue
                opened.callback(os.close, descriptor)
                if is_same(os.fstat(descriptor), wanted):
                    files.append((descriptor, wanted))
                else:
                    self._course.trouble(f"{wanted['path']!r} changed during the copy")
            header = json.dumps([wanted for _, wanted in files]).encode()
            size = sum(wanted["size"] for _, wanted in files)
            stream.sendall(FRAME.pack(BUNDLE, len(header), size, 0) + header, MSG_MORE)
            for descriptor, wanted in files:
                if not send_range(stream, descriptor, 0, wanted["size"]):
                    raise ConnectionError("the receiver waits for what is not there any more")
            await_arrival(stream)
        self._work.bundle_arrived(rail, size, size + len(header))

    def _send_piece(self, rail: Rail, stream: socket.socket, piece: Piece) -> None:
        index, offset, length = piece
        wanted = self._work.large[index]
        try:
            descriptor = self._open(wanted)
        except OSError as error:
            self._work.skip(index, f"{wanted['path']!r} was removed during the copy ({error.strerror})")
            return
        try:
            if not is_same(os.fstat(descriptor), wanted):
                self._work.skip(index, f"{wanted['path']!r} changed during the copy")
                return
            extents = data_extents(descriptor, offset, length) if wanted["sparse"] else [(offset, length)]
            header = FRAME.pack(index, offset, length, len(extents))
            stream.sendall(header + b"".join(EXTENT.pack(*extent) for extent in extents))
            for start, size in extents:
                if not send_range(stream, descriptor, start, size):
                    self._work.skip(index, f"{wanted['path']!r} became shorter during the copy")
                    raise ConnectionError("the receiver waits for what is not there any more")
            await_arrival(stream)
        finally:
            os.close(descriptor)
        self._work.piece_arrived(rail, piece)

    def _open(self, wanted: Wanted) -> int:
        return os.open(os.path.join(self._work.root, wanted["path"]), os.O_RDONLY | os.O_CLOEXEC)


def await_arrival(stream: socket.socket) -> None:
    """Wait until the receiver has what was sent. Raise ConnectionError if it is gone."""
    if stream.recv(1) != ARRIVED:
        raise ConnectionError("the receiver is gone")


def data_extents(descriptor: int, offset: int, length: int) -> list[Range]:
    """Return (offset, length) of the data in a piece of a file with holes."""
    found: list[Range] = []
    at, end = offset, offset + length
    while at < end:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            break  # nothing but a hole up to the end
        if start >= end:
            break
        at = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        found.append((start, at - start))
    return found


def send_range(stream: socket.socket, descriptor: int, offset: int, length: int) -> bool:
    """Send a range of a file; return True if the file has all of it."""
    end = offset + length
    while offset < end:
        count = os.sendfile(stream.fileno(), descriptor, offset, min(end - offset, SENDFILE_BYTES))
        if not count:
            return False
        offset += count
    return True
