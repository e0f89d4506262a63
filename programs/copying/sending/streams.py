"""The streams of the sender, and their queue of work: pieces of large files and bundles of small ones."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import socket
import time

from gb10.programs.copying.protocol import ARRIVED, BUNDLE, EXTENT, FRAME, PIECE_BYTES, Range, Wanted, pieces
from gb10.programs.copying.sending.rails import CopyState, Rail, first_alive

MSG_MORE = 0x8000  # send(2): more follows at once
SENDFILE_BYTES = 4 << 20
ATTEMPTS = 5  # to connect and send, until the rail is given up
PAUSE_SECONDS = 0.2
BUNDLE_FILES = 256
COMPLETE_SECONDS = 1800  # a file may have to wait for a slow disk

Piece = tuple[int, int, int]  # index, offset, length


class Streams:
    """Sends the work of a queue. Each stream runs `run` in its own thread."""

    def __init__(self, secret: bytes, work: WorkQueue, state: CopyState) -> None:
        self._secret = secret
        self._work = work
        self._state = state

    def run(self, rail: Rail) -> None:
        """Send over a rail until no work is left for it."""
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
        except BaseException as error:  # the copy must not wait for this thread
            self._state.fail(error)

    def _send_bundle(self, rail: Rail, stream: socket.socket, bundle: list[Wanted]) -> None:
        """Send the small files that have not changed; note the others as faults."""
        with contextlib.ExitStack() as opened:
            files = []
            for wanted in bundle:
                try:
                    descriptor = self._open(wanted)
                except OSError as error:
                    self._state.add_source_fault(f"{wanted['path']!r} cannot be read any more ({error.strerror})")
                    continue
                opened.callback(os.close, descriptor)
                if is_same(os.fstat(descriptor), wanted):
                    files.append((descriptor, wanted))
                else:
                    self._state.add_source_fault(f"{wanted['path']!r} changed during the copy")
            header = json.dumps([wanted for _, wanted in files]).encode()
            size = sum(wanted["size"] for _, wanted in files)
            stream.sendall(FRAME.pack(BUNDLE, len(header), size, 0) + header, MSG_MORE)
            for descriptor, wanted in files:
                if not send_range(stream, descriptor, 0, wanted["size"]):
                    raise ConnectionError("the receiver waits for bytes that do not exist any more")
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
                    raise ConnectionError("the receiver waits for bytes that do not exist any more")
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
            break  # a hole up to the end of the file
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


def bundles(files: list[Wanted], most_bytes: int = PIECE_BYTES, most_files: int = BUNDLE_FILES) -> list[list[Wanted]]:
    """Group small files into bundles of about the size of a piece."""
    found: list[list[Wanted]] = []
    size = 0
    for wanted in files:
        if not found or size + wanted["size"] > most_bytes or len(found[-1]) >= most_files:
            found.append([])
            size = 0
        found[-1].append(wanted)
        size += wanted["size"]
    return found


def is_same(found: os.stat_result, wanted: Wanted) -> bool:
    """Return True if a file has not changed since the copy was planned."""
    return (found.st_size, found.st_mtime_ns) == (wanted["size"], wanted["mtime"])


class WorkQueue:
    """The pieces and bundles to send, and what has arrived of each file."""

    def __init__(self, root: str, large: list[Wanted], rails: list[Rail], state: CopyState) -> None:
        self.root = root
        self.large = large
        self.resumed = 0  # bytes that an earlier copy has sent
        self._rails = rails
        self._state = state
        self._queue: collections.deque[Piece | list[Wanted]] = collections.deque()
        self._bundles_left = 0
        self._left: dict[int, int] = {}  # index -> pieces that have not arrived
        self._completing: dict[int, float] = {}  # index -> since when it waits to be renamed into place

    def plan(self, have: dict[str, list[Range]], small: list[Wanted]) -> None:
        """Queue everything that the receiver lacks."""
        for index in sorted(range(len(self.large)), key=lambda index: -self.large[index]["size"]):
            size = self.large[index]["size"]
            found = pieces(size, [(start, end) for start, end in have.get(str(index), [])])
            self.resumed += size - sum(length for _, length in found)
            self._queue += [(index, offset, length) for offset, length in found]
            self._left[index] = len(found)
            if not found:
                self.complete(index)
        bundled = bundles(small)
        self._bundles_left = len(bundled)
        self._queue += bundled

    @property
    def is_queued(self) -> bool:
        return bool(self._queue)

    @property
    def is_done(self) -> bool:
        """True if all files have arrived and have their names."""
        return not (self._left or self._bundles_left or self._completing)

    def take(self, rail: Rail) -> Piece | list[Wanted] | None:
        """Wait for the next work; return None if none is left for this rail."""
        with self._state.changed:
            while rail.alive and not self._state.fatal and (self._left or self._bundles_left):
                if self._queue:
                    return self._queue.popleft()
                self._state.changed.wait(1)
        return None

    def put_back(self, work: Piece | list[Wanted]) -> None:
        """Put work that did not arrive back into the queue."""
        with self._state.changed:
            self._queue.appendleft(work)
            self._state.changed.notify_all()

    def bundle_arrived(self, rail: Rail, size: int, wire: int) -> None:
        with self._state.changed:
            rail.sent += size
            self._state.wire += wire
            self._bundles_left -= 1
            self._state.changed.notify_all()

    def piece_arrived(self, rail: Rail, piece: Piece) -> None:
        """Count a piece; complete the file with its last one."""
        index, _, length = piece
        with self._state.changed:
            rail.sent += length
            self._state.wire += length
            if index not in self._left:
                return
            self._left[index] -= 1
            whole = self._left[index] == 0
        if whole:
            self.complete(index)

    def complete(self, index: int) -> None:
        """Ask the receiver to rename a file into place, unless the source has changed."""
        wanted = self.large[index]
        try:
            same = is_same(os.stat(os.path.join(self.root, wanted["path"])), wanted)
        except OSError:
            same = False
        if not same:
            self.skip(index, f"{wanted['path']!r} changed during the copy")
            return
        with self._state.changed:
            self._completing[index] = time.monotonic()
            self._left.pop(index, None)
            self._state.changed.notify_all()
        self._request_completion(index)

    def completed(self, index: int) -> None:
        """Note that a file is in place on the target."""
        with self._state.changed:
            self._completing.pop(index, None)
            self._state.changed.notify_all()

    def skip(self, index: int, fault: str) -> None:
        """Leave out a file that has changed since the copy was planned."""
        with self._state.changed:
            if index in self._left:
                self._state.source_faults.append(fault)
                self._left.pop(index)
                kept = (work for work in self._queue if isinstance(work, list) or work[0] != index)
                self._queue = collections.deque(kept)
            self._state.changed.notify_all()

    def request_completions(self) -> None:
        """Ask again to rename files into place: a lost rail may have lost the request."""
        for index in list(self._completing):
            self._request_completion(index)

    def overdue(self) -> str | None:
        """Return the path of a file that has not been renamed into place in time, or None."""
        late = time.monotonic() - COMPLETE_SECONDS
        found = (index for index, since in list(self._completing.items()) if since < late)
        return next((str(self.large[index]["path"]) for index in found), None)

    def _request_completion(self, index: int) -> None:
        if rail := first_alive(self._rails):
            rail.send({"do": "complete", "index": index})
