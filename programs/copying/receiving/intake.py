"""How bytes get from a stream into a file: past the page cache where the file system allows it.

On a machine whose GPU has no memory of its own, a terabyte of models would fill the page cache.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
from contextlib import suppress

from gb10.programs.copying.receiving.parts import Part

BUFFER_BYTES = 1 << 20
DIRECT_BYTES = 4 << 20  # of one write past the page cache
BLOCK_BYTES = 4096  # to which such writes are aligned
F_SETPIPE_SZ = 1031  # fcntl(2)


class Intake:
    """A stream that carries files, and a folder for those that are not whole."""

    def __init__(self, stream: socket.socket, folder: str) -> None:
        self.stream = stream
        self.folder = folder
        os.mkdir(folder)
        self._end, self._mouth = os.pipe2(os.O_CLOEXEC)
        self._capacity = fcntl.fcntl(self._mouth, F_SETPIPE_SZ, BUFFER_BYTES)
        self._buffer = memoryview(mmap.mmap(-1, DIRECT_BYTES))  # which is aligned

    def close(self) -> None:
        """Let go of the pipe and the folder; the stream is its owner's."""
        os.close(self._end)
        os.close(self._mouth)
        with suppress(OSError):
            os.rmdir(self.folder)

    def fill(self, part: Part, at: int, end: int) -> int:
        """Write what comes next to a part, from one place to at most another; return how many bytes that were.

        Whole blocks go past the page cache, where that can be. Raise as `_move`.
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
                part.direct = None  # its blocks are larger than ours; it is closed with this process
        return written

    def _move(self, descriptor: int, at: int, end: int) -> int:
        """Write what comes next through a pipe: the kernel moves it without copying twice.

        Raise ConnectionError if nothing comes, and other OSErrors if it cannot be written.
        """
        try:
            count = os.splice(self.stream.fileno(), self._mouth, min(end - at, self._capacity))
        except OSError as error:
            raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
        if not count:
            raise ConnectionError("the sender is gone")
        moved = 0
        while moved < count:
            moved += os.splice(self._end, descriptor, count - moved, offset_dst=at + moved)
        return count

    def receive(self, count: int) -> memoryview:
        """Return what comes next, at most the size of the buffer. Raise ConnectionError if nothing comes."""
        filled = 0
        while filled < count:
            try:
                more = self.stream.recv_into(self._buffer[filled:count], 0, socket.MSG_WAITALL)
            except OSError as error:
                raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
            if not more:
                raise ConnectionError("the sender is gone")
            filled += more
        return self._buffer[:count]
