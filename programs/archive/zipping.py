"""gzip in pieces, one after the other: what cannot be compressed costs no time."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, Protocol

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # no name, no time, fast, on no system in particular
SAMPLE_BYTES = 1 << 13  # a sample of each block shows whether compressing it pays
WORTHWHILE = 0.95  # of its size


class Sink(Protocol):
    """What takes bytes: a file, or the outlet of a program."""

    def write(self, data: bytes, /) -> int: ...


class Zipped:
    """A stream that compresses what is written to it."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._level = -1  # of the open piece; less than 0 if none is open
        self._crc = self._size = 0
        self._deflate = zlib.compressobj()

    def write(self, data: bytes) -> int:
        """Compress data, unless a sample says that this does not pay."""
        sample = data[:SAMPLE_BYTES]
        pays = len(data) < SAMPLE_BYTES or len(zlib.compress(sample, 1)) < SAMPLE_BYTES * WORTHWHILE
        if self._level != int(pays):
            self.end()
            self._begin(int(pays))
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._out.write(self._deflate.compress(data))
        return len(data)

    def end(self) -> None:
        """Write the end of the piece."""
        if self._level >= 0:
            self._out.write(self._deflate.flush() + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF))
            self._level = -1

    def _begin(self, level: int) -> None:
        self._out.write(HEADER)
        self._level, self._crc, self._size = level, zlib.crc32(b""), 0
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)


class Joined:
    """Bytes that were read ahead, and the stream that goes on after them."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Read as from a file."""
        if self._first:
            given, self._first = (self._first, b"") if size < 0 else (self._first[:size], self._first[size:])
            return given
        return self._stream.read(size)
