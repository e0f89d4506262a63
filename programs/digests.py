"""sha256 of files, remembered on the node: a file that has not changed is not read again.

The contract: a digest counts for one device, inode, size, mtime and ctime. The owner of a file can set its mtime, but
only the kernel sets its ctime. What is remembered lies where only root can write.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from gb10.programs.answer import Outlet
from gb10.programs.files import HASHED_BYTES, finish
from gb10.programs.meter import Meter

KNOWN = "/var/lib/gb10/digests.json"
MOST = 500_000  # digests that are remembered, the newest
SAVE_SECONDS = 60.0  # lost at most, if the program is killed
# A file that changes twice within one tick of the clock has one ctime: what changed just now is not remembered.
SETTLED_NS = 2_000_000_000


def sha256_of_all(paths: Iterable[str], outlet: Outlet, memory: str = KNOWN) -> dict[str, str | None]:
    """Return path -> sha256 of each file; None if it cannot be read, or changes meanwhile. Report the progress.

    + memory: the file of what is remembered

    Each core reads a file, the largest come first. A link is not followed, and what is no file is not read.
    """
    known = _load(memory)
    keys = {path: _key(path) for path in paths}
    unread = {key: path for path, key in keys.items() if key and key not in known}  # once for all its names
    meter = Meter(outlet, "checked", sum(map(_size, unread)))
    saved = time.monotonic()
    found: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ordered = sorted(unread, key=_size, reverse=True)
        results = pool.map(lambda key: _read(unread[key], key, meter), ordered)
        for key, (digest, settled) in zip(ordered, results, strict=True):
            if digest:
                found[key] = digest
            if digest and settled:
                known[key] = digest
            if time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                _save(memory, known)
    if found:
        _save(memory, known)
    return {path: known.get(key, found.get(key)) if key else None for path, key in keys.items()}


def _key(path: str) -> str | None:
    try:
        return _identity(os.lstat(path))
    except OSError:
        return None


def _identity(found: os.stat_result) -> str | None:
    """Return what a digest is remembered by; None for what is no file."""
    if not stat.S_ISREG(found.st_mode):
        return None
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _size(key: str) -> int:
    return int(key.split(":")[2])


def _read(path: str, key: str, meter: Meter) -> tuple[str | None, bool]:
    """Return the sha256 of a file, None if it is another one by now, and True if it may be remembered."""
    digest, buffer = hashlib.sha256(), bytearray(HASHED_BYTES)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None, False
    with open(descriptor, "rb", buffering=0) as file:
        try:
            # Afterwards also a write through a mapping changes the ctime.
            os.fsync(descriptor)
            settled = os.fstat(descriptor).st_ctime_ns < time.time_ns() - SETTLED_NS
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
                meter.count(count)
            same = _identity(os.fstat(descriptor)) == key
        except OSError:
            return None, False
    return (digest.hexdigest(), settled) if same else (None, False)


def _load(memory: str) -> dict[str, str]:
    try:
        with open(memory) as file:
            return {str(key): str(digest) for key, digest in json.load(file).items()}
    except (OSError, ValueError, AttributeError):
        return {}  # then every file is read


def _save(memory: str, known: dict[str, str]) -> None:
    unfinished = f"{memory}.{os.getpid()}"
    os.makedirs(os.path.dirname(memory), exist_ok=True)
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(dict(list(known.items())[-MOST:]), file)
            finish(file, unfinished, memory)
    except OSError:  # a full disk: the next time reads everything again
        if os.path.exists(unfinished):
            os.unlink(unfinished)
