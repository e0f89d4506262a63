"""Room on file systems."""

from __future__ import annotations

import os


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Return how many bytes the file system of a folder has left; of an absent one, where it would be made."""
    path = os.path.abspath(folder)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def is_short(free: int, needed: int, spare: int = 0) -> bool:
    """Return True if so many bytes do not fit; `spare` must stay free beside them."""
    return needed > 0 and free < needed + spare
