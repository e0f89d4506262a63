"""The target folder, in which everything that arrives is written. Nothing is written outside of it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.copying.names import PARTIAL, SMALL, STAGING
from gb10.programs.copying.protocol import ARRIVED, BUNDLE, EXTENT, FRAME, Range, Wanted, receive_exactly
from gb10.programs.copying.receiving.parts import DIRECT_BYTES, DataStream, Part

KEEP_SECONDS = 14 * 24 * 3600  # parts of files that no copy asks for


class Target:
    """The target folder, with the large files that are arriving."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.parts: dict[int, Part] = {}
        self._folders: set[str] = set()  # in which files may be written

    def expect(self, large: list[Wanted]) -> None:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        for index, wanted in enumerate(large):
            self.make_folder(os.path.dirname(os.path.join(self.root, wanted["path"])))
            self.parts[index] = Part(self.root, wanted, boot)

    def make_folder(self, folder: str) -> None:
        """Make a folder inside the root. Raise RefusedError if it is outside."""
        if folder in self._folders:
            return
        real = os.path.realpath(folder)
        if real != self.root and not real.startswith(self.root + "/"):
            raise RefusedError("COPY_FAILED", f"{folder!r} is outside of {self.root}")
        os.makedirs(folder, exist_ok=True)
        self._folders.add(folder)

    def take_piece(self, stream: DataStream, index: int, piece: Range, extents: list[Range]) -> None:
        """Receive a piece (offset, length) of a large file. Between its extents it has holes.

        Raise KeyError if the file is not part of the copy.
        """
        part = self.parts[index]
        offset, length = piece
        if offset + length > part.wanted["size"] or not all(
            offset <= start <= start + size <= offset + length for start, size in extents
        ):
            raise RefusedError("COPY_FAILED", "a piece does not belong into its file")
        with part.in_use():
            part.open()  # even if the piece is a single hole
            for start, size in extents:
                at, end = start, start + size
                try:
                    while at < end:
                        at += stream.fill(part, at, end)
                except OSError:
                    part.arrived(start, at - start)
                    raise
            part.arrived(offset, length)

    def take_small(self, stream: DataStream, wanted: Wanted) -> None:
        """Receive a small file and rename it into place once complete."""
        final = os.path.join(self.root, wanted["path"])
        self.make_folder(os.path.dirname(final))
        temporary = os.path.join(stream.folder, "small")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = wanted["size"]
            while left:
                left -= os.write(descriptor, stream.receive(min(left, DIRECT_BYTES)))
            os.fchown(descriptor, wanted["uid"], wanted["gid"])
            os.fchmod(descriptor, wanted["mode"])
            os.utime(descriptor, ns=(wanted["mtime"], wanted["mtime"]))
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        os.rename(temporary, final)


def make_root(root: str, top: Wanted | None) -> None:
    """Create the target folder with owner and mode of the source. An existing one keeps its own."""
    os.makedirs(os.path.dirname(os.path.abspath(root)), exist_ok=True)
    try:
        os.mkdir(root)
    except FileExistsError:
        if not os.path.isdir(root):
            raise RefusedError("COPY_PATH", f"{root} is there, and no folder") from None
        return
    if top:
        os.chown(root, top["uid"], top["gid"])
        os.chmod(root, top["mode"])


class Streams:
    """The open data connections.

    + folder: for incomplete files
    + give_up: called with an index and an error if the copy cannot continue
    """

    def __init__(self, target: Target, folder: str, give_up: Callable[[int, Exception], None]) -> None:
        self._target = target
        self._folder = folder
        self._give_up = give_up
        self._open: set[socket.socket] = set()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    def serve(self, connection: socket.socket) -> None:
        """Receive files until the connection ends."""
        with self._lock:
            self._open.add(connection)
        # Each stream has its own folder: streams that create files in one folder wait for each other.
        stream = DataStream(connection, os.path.join(self._folder, f"stream-{next(self._numbers)}"))
        try:
            self._take_files(stream)
        finally:
            stream.close()
            with self._lock:
                self._open.discard(connection)

    def _take_files(self, stream: DataStream) -> None:
        while frame := receive_exactly(stream.connection, FRAME.size):
            index, offset, length, count = FRAME.unpack(frame)
            try:
                if index == BUNDLE:
                    for wanted in json.loads(receive_exactly(stream.connection, offset)):
                        self._target.take_small(stream, wanted)
                else:
                    extents = [EXTENT.unpack(receive_exactly(stream.connection, EXTENT.size)) for _ in range(count)]
                    self._target.take_piece(stream, index, (offset, length), extents)
            except ConnectionError:
                raise
            except (RefusedError, OSError) as error:
                self._give_up(index, error)
                raise
            stream.connection.sendall(ARRIVED)

    def stop(self) -> None:
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class StagingFolder:
    """The folder in the target folder for incomplete files, with which a later copy can continue."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = os.path.join(root, STAGING)

    @property
    def temporary(self) -> str:
        return os.path.join(self.path, SMALL)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other copies out during the block. Raise RefusedError if another copy is running."""
        os.makedirs(self.temporary, exist_ok=True)
        with open(os.path.join(self.path, "lock"), "w") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError("COPY_BUSY", f"another copy into {self.root} is running") from None
            yield

    def clean(self, job: dict[str, Any]) -> None:
        """Remove what killed copies left, except parts with which this copy or a later one can continue."""
        shutil.rmtree(self.temporary)
        os.mkdir(self.temporary)
        stale, wanted = set(job["stale"]), {file["key"] for file in job["large"]}
        for name in os.listdir(self.path):
            key, _, kind = name.rpartition(".")
            path = os.path.join(self.path, name)
            given_up = kind in ("part", "map") and time.time() - os.stat(path).st_mtime > KEEP_SECONDS
            if key in stale or (given_up and key not in wanted):
                os.unlink(path)
        for path in job["halves"]:
            folder = os.path.join(self.root, os.path.dirname(path), PARTIAL)
            if os.path.isdir(folder) and not os.path.islink(folder):
                shutil.rmtree(folder)

    def tidy(self) -> None:
        """Remove the folder, unless it holds parts with which a later copy can continue."""
        if os.path.isdir(self.path) and not [name for name in os.listdir(self.path) if name.endswith(".part")]:
            shutil.rmtree(self.path, ignore_errors=True)


def note_references(root: str, blob: str, links: list[str]) -> None:
    """Add links to the notes of a blob in the store that Hugging Face models share.

    huggingface_hub removes a blob with the last link in these notes, and takes the same lock (utils/_shared_blobs.py).
    """
    path = os.path.join(root, blob)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    owner = os.stat(folder)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    with open(f"{path}.lock", "ab", opener=opener) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(f"{path}.refs", "a+b", opener=opener) as notes:
            for file in (lock, notes):
                os.fchmod(file.fileno(), 0o666)
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            notes.seek(0)
            known = notes.read().decode(errors="surrogateescape").splitlines()
            missing = "".join(f"{link}\n" for link in links if link not in known)
            notes.write(missing.encode(errors="surrogateescape"))
            notes.flush()
            os.fsync(notes.fileno())
