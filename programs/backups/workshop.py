"""The folder of a store in which backups are unpacked to prove them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator

PROVING = ".proving"


@contextlib.contextmanager
def workshop(root: str) -> Iterator[str]:
    """A folder that is closed to others, empty before and gone after; what dead runs left goes, too."""
    place = os.path.join(root, PROVING)
    os.makedirs(place, 0o700, exist_ok=True)
    for name in os.listdir(place):
        _remove_if_left(os.path.join(place, name))
    folder = tempfile.mkdtemp(dir=place)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_if_left(folder: str) -> None:
    """Remove a workshop that no process holds locked any more."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
