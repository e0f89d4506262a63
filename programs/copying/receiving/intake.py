"""Write bytes from a stream into files, past the page cache if the file system allows it.

The GPU of these machines shares their memory, and a terabyte of models would fill it with page cache.
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
    """A stream that carries files, with a folder for incomplete ones."""

    def __init__(self, stream: socket.socket, folder: str) -> None:
        self.stream = stream
        self.folder = folder
        os.mkdir(folder)
        self._end, self._mouth = os.pipe2(os.O_CLOEXEC)
        self._capacity = fcntl.fcntl(self._mouth, F_SETPIPE_SZ, BUFFER_BYTES)
        self._buffer = memoryview(mmap.mmap(-1, DIRECT_BYTES))  # aligned to pages

    def close(self) -> None:
        """Close the pipe and remove the folder; the stream stays open."""
        os.close(self._end)
        os.close(self._mouth)
        with suppress(OSError):
            os.rmdir(self.folder)

    def fill(self, part: Part, at: int, end: int) -> int:
        """Write the next bytes of the stream to a part, from offset `at` to `end` at most; return how many.

        Whole blocks go past the page cache if possible. Raise what `_move` raises.
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
                part.direct = None  # the file system has larger blocks; this process closes it when it ends
        return written

    def _move(self, descriptor: int, at: int, end: int) -> int:
        """Move the next bytes of the stream into a file through a pipe: the kernel copies them only once.

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
        """Return the next bytes of the stream, at most the size of the buffer. Raise ConnectionError if none come."""
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
