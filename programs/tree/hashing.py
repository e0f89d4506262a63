"""The content of files, read at the speed of the storage."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from gb10.programs.tree.walk import Walk

BUFFER_BYTES = 4 << 20


def hash_files(walk: Walk) -> None:
    """Add the sha256 of every file, the largest first: hashing needs a core for each. None for an unreadable one."""
    files = sorted((entry for entry in walk.entries.values() if entry["type"] == "f"), key=lambda entry: -entry["size"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda entry: sha256(walk.full(entry["path"])), files)
        for entry, digest in zip(files, digests, strict=True):
            entry["sha256"] = digest


def sha256(path: str) -> str | None:
    """Return the sha256 of a file, or None if it cannot be read."""
    digest, buffer = hashlib.sha256(), bytearray(BUFFER_BYTES)
    try:
        with open(path, "rb", buffering=0) as file:  # unbuffered: it is read in large pieces
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
    except OSError:
        return None
    return digest.hexdigest()
