"""Large files that arrive in pieces, written past the page cache if the file system allows it.

The GPU of these machines shares their memory, and a terabyte of models would fill it with page cache.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gb10.programs.answer import RefusedError
from gb10.programs.copying.names import STAGING
from gb10.programs.copying.protocol import Range, Wanted, merged

BUFFER_BYTES = 1 << 20
DIRECT_BYTES = 4 << 20  # of one write past the page cache; the size of the buffer
BLOCK_BYTES = 4096  # to which such writes are aligned
F_SETPIPE_SZ = 1031  # fcntl(2)


class DataStream:
    """A data connection, with a buffer, a pipe and a folder for incomplete small files."""

    def __init__(self, connection: socket.socket, folder: str) -> None:
        self.connection = connection
        self.folder = folder
        os.mkdir(folder)
        self._pipe_out, self._pipe_in = os.pipe2(os.O_CLOEXEC)
        self._capacity = fcntl.fcntl(self._pipe_in, F_SETPIPE_SZ, BUFFER_BYTES)
        self._buffer = memoryview(mmap.mmap(-1, DIRECT_BYTES))  # aligned to pages

    def close(self) -> None:
        """Close the pipe and remove the folder. The connection stays open."""
        os.close(self._pipe_out)
        os.close(self._pipe_in)
        with suppress(OSError):
            os.rmdir(self.folder)

    def fill(self, part: Part, at: int, end: int) -> int:
        """Write the next bytes to a part, from offset `at` to `end` at most; return how many.

        Whole blocks go past the page cache if possible. Raise as `_move` does.
        """
        descriptor, blocks = part.open(), (end - at) // BLOCK_BYTES * BLOCK_BYTES
        if part.direct is None:
            return self._move(descriptor, at, end)
        if at % BLOCK_BYTES or not blocks:
            return self._move(descriptor, at, min(end, at + BLOCK_BYTES - at % BLOCK_BYTES))
        chunk, written = self.receive(min(blocks, DIRECT_BYTES)), 0
        while written < len(chunk):
            try:
                written += os.pwrite(part.direct or descriptor, chunk[written:], at + written)
            except OSError as error:
                if error.errno != errno.EINVAL or part.direct is None:
                    raise
                part.direct = None  # the file system has larger blocks; it is closed at the end of this process
        return written

    def _move(self, descriptor: int, at: int, end: int) -> int:
        """Move the next bytes into a file through a pipe: the kernel copies them only once.

        Raise ConnectionError if none come, and other OSErrors if the file cannot be written.
        """
        try:
            count = os.splice(self.connection.fileno(), self._pipe_in, min(end - at, self._capacity))
        except OSError as error:
            raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
        if not count:
            raise ConnectionError("the sender is gone")
        moved = 0
        while moved < count:
            moved += os.splice(self._pipe_out, descriptor, count - moved, offset_dst=at + moved)
        return count

    def receive(self, count: int) -> memoryview:
        """Return this many bytes, at most DIRECT_BYTES, in a buffer that is reused. Raise ConnectionError."""
        filled = 0
        while filled < count:
            try:
                more = self.connection.recv_into(self._buffer[filled:count], 0, socket.MSG_WAITALL)
            except OSError as error:
                raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
            if not more:
                raise ConnectionError("the sender is gone")
            filled += more
        return self._buffer[:count]


class ArrivalMap:
    """The ranges of a file that have arrived, kept in a file beside it for a later copy.

    The map names the boot: after a crash it is unknown what had reached the disk.
    """

    def __init__(self, base: str, size: int, boot: str) -> None:
        self.path = f"{base}.map"
        self._boot = boot
        self.ranges = self._read(f"{base}.part", size)

    def _read(self, part: str, size: int) -> list[Range]:
        try:
            with open(self.path) as file:
                boot, *lines = file.read().splitlines()
            if boot == self._boot and os.path.getsize(part) == size:
                pairs = [(int(offset), int(length)) for offset, length in (line.split() for line in lines)]
                return merged([(offset, offset + length) for offset, length in pairs])
        except (OSError, ValueError):
            pass
        for path in (part, self.path):
            with suppress(FileNotFoundError):
                os.unlink(path)
        return []

    def begin(self) -> None:
        """Create the map, unless it exists."""
        if not os.path.exists(self.path):
            with open(self.path, "w") as file:
                file.write(f"{self._boot}\n")

    def add(self, offset: int, length: int) -> None:
        """Add a range that has arrived."""
        with open(self.path, "a") as file:
            file.write(f"{offset} {length}\n")
        self.ranges = merged([*self.ranges, (offset, offset + length)])


class Part:
    """A large file that is arriving."""

    def __init__(self, root: str, wanted: Wanted, boot: str) -> None:
        self.wanted = wanted
        self.descriptor: int | None = None
        self.direct: int | None = None  # the same file, opened for writes past the page cache
        base = os.path.join(root, STAGING, wanted["key"])
        self._path = f"{base}.part"
        self._final = os.path.join(root, wanted["path"])
        self._map = ArrivalMap(base, wanted["size"], boot)
        self._lock = threading.Lock()
        self._finishing = threading.Lock()
        self._users = 0  # streams that are writing into it
        self._is_named = False

    @property
    def ranges(self) -> list[Range]:
        return self._map.ranges

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the descriptors open during the block, so that their numbers are not reused for other files.

        Raise ConnectionError if the file is complete: a sender that lost a rail sends a piece twice.
        """
        with self._lock:
            if self._is_named:
                raise ConnectionError(f"{self.wanted['path']!r} is complete already")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._is_named and not self._users:
                    self._close()

    def open(self) -> int:
        """Open the file, unless it is open; return its descriptor."""
        with self._lock:
            if self.descriptor is None:
                self._map.begin()
                self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                os.ftruncate(self.descriptor, self.wanted["size"])
                with suppress(OSError):  # not every file system supports it
                    self.direct = os.open(self._path, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC)
            return self.descriptor

    def arrived(self, offset: int, length: int) -> None:
        """Note a range that has arrived."""
        with self._lock:
            if not self._is_named:
                self._map.add(offset, length)

    def complete(self) -> None:
        """Rename the file into place. A sender that lost a rail may ask twice."""
        with self._finishing:
            if not self._is_named:
                self._finish()

    def _finish(self) -> None:
        wanted = self.wanted
        if wanted["size"] and self.ranges != [(0, wanted["size"])]:
            raise RefusedError("COPY_FAILED", f"{wanted['path']!r} is not complete")
        descriptor = self.open()
        os.fdatasync(descriptor)
        os.fchown(descriptor, wanted["uid"], wanted["gid"])
        os.fchmod(descriptor, wanted["mode"])
        os.utime(descriptor, ns=(time.time_ns(), wanted["mtime"]))
        os.makedirs(os.path.dirname(self._final), exist_ok=True)
        with self._lock:
            os.rename(self._path, self._final)
            os.unlink(self._map.path)
            self._is_named = True
            if not self._users:
                self._close()

    def _close(self) -> None:
        """Close the file and set its time again: a stream may have written bytes a second time."""
        if self.descriptor is not None:
            os.utime(self.descriptor, ns=(time.time_ns(), self.wanted["mtime"]))
        for opened in (self.descriptor, self.direct):
            if opened is not None:
                os.close(opened)
        self.descriptor = self.direct = None
