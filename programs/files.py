"""Files and file systems: rename into place once complete and on the disk, hash, measure free space."""

from __future__ import annotations

import hashlib
import os
from os import PathLike
from typing import IO, Any

HASHED_BYTES = 1 << 20  # read at a time


def finish(file: IO[Any], unfinished: str | PathLike[str], path: str | PathLike[str]) -> None:
    """Write an open file to the disk, then rename it from its unfinished name to its path."""
    file.flush()
    os.fsync(file.fileno())
    rename(unfinished, path)


def rename(old: str | PathLike[str], new: str | PathLike[str]) -> None:
    """Rename a file, in place of another if there is one, and write the new name to the disk."""
    os.replace(old, new)
    sync_folder(os.path.dirname(new))


def sync_folder(path: str | PathLike[str]) -> None:
    """Write the names in a folder to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: str | PathLike[str]) -> str:
    """Return the sha256 of a file."""
    digest, buffer = hashlib.sha256(), bytearray(HASHED_BYTES)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def free_bytes(folder: str | PathLike[str]) -> int:
    """Return the free bytes of a folder's file system; for an absent folder, of the one that would hold it."""
    path = os.path.abspath(folder)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def is_short(free: int, needed: int, spare: int = 0) -> bool:
    """Return True if the needed bytes do not fit; `spare` bytes must stay free."""
    return needed > 0 and free < needed + spare
