"""Bytes of a backup on their way: written, hashed, and reported now and then."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import BinaryIO

from pyinfra.api import Host

from gb10.facts.reading.reports import report
from gb10.operations.backups.reports import Transferred
from gb10.programs.archive.files import CHUNK


class Progress:
    """Reports now and then how far something is. `total`: bytes, if they are known."""

    def __init__(self, host: Host, what: str, every: float, total: int | None = None) -> None:
        self.size = 0
        self._host, self._what, self._every, self._total = host, what, every, total
        self._told = time.monotonic()

    def add(self, size: int) -> None:
        """Count bytes that have been transferred."""
        self.size += size
        if time.monotonic() - self._told > self._every:
            self._told = time.monotonic()
            report(self._host, Transferred(self._what, self.size, self._total))

    def counted(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield the content of a file, counted."""
        while chunk := file.read(CHUNK):
            yield chunk
            self.add(len(chunk))


class Meter:
    """Writes what comes, hashes it, and counts it."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress = file, progress
        self._sha256 = hashlib.sha256()
        self._began = time.monotonic()

    def take(self, chunk: bytes) -> None:
        """Write a chunk."""
        self._file.write(chunk)
        self._sha256.update(chunk)
        self._progress.add(len(chunk))

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._progress.size

    @property
    def sha256(self) -> str:
        """Digest of the bytes that have come."""
        return self._sha256.hexdigest()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began
