"""Large files that arrive in pieces, with a map of what has arrived for a later copy."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gb10.programs.answer import RefusedError
from gb10.programs.copying.places import WORKSHOP
from gb10.programs.copying.protocol import Range, Wanted, merged


class ArrivalMap:
    """The ranges of a file that have arrived, kept in a file beside it.

    The map names the boot: after a crash of the machine nobody knows what had reached the disk.
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
        """Create the file, unless it exists."""
        if not os.path.exists(self.path):
            with open(self.path, "w") as file:
                file.write(f"{self._boot}\n")

    def add(self, offset: int, length: int) -> None:
        """Add a range."""
        with open(self.path, "a") as file:
            file.write(f"{offset} {length}\n")
        self.ranges = merged([*self.ranges, (offset, offset + length)])


class Part:
    """A large file that is arriving."""

    def __init__(self, root: str, wanted: Wanted, boot: str) -> None:
        self.wanted = wanted
        self.descriptor: int | None = None
        self.direct: int | None = None  # the same file, opened for writes past the page cache
        base = os.path.join(root, WORKSHOP, wanted["key"])
        self._path = f"{base}.part"
        self._final = os.path.join(root, wanted["path"])
        self._map = ArrivalMap(base, wanted["size"], boot)
        self._lock = threading.Lock()
        self._finishing = threading.Lock()
        self._users = 0  # streams that write into it now
        self._is_named = False

    @property
    def ranges(self) -> list[Range]:
        """The ranges that have arrived."""
        return self._map.ranges

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the descriptors open while a stream writes, so that their numbers are not reused for other files.

        Raise ConnectionError if the file has its name already: the sender lost a rail and sent a piece twice.
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
        """Add a range that has arrived."""
        with self._lock:
            if not self._is_named:
                self._map.add(offset, length)

    def complete(self) -> None:
        """Give the file its name. A sender that lost its rail may ask twice."""
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
        """Close the file and set its time again: a stream may have written the same bytes twice."""
        if self.descriptor is not None:
            os.utime(self.descriptor, ns=(time.time_ns(), self.wanted["mtime"]))
        for opened in (self.descriptor, self.direct):
            if opened is not None:
                os.close(opened)
        self.descriptor = self.direct = None
