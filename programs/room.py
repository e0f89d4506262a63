"""Room on file systems."""

from __future__ import annotations

import os

GB = 1e9


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Return how many bytes the file system of a folder has left for whoever is not root."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def is_short(free: int, needed: int, spare: int = 0) -> bool:
    """Return True if so many bytes do not fit; `spare` must stay free beside them."""
    return needed > 0 and free < needed + spare
