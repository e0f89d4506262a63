"""The folder on a node where the copy of its database lies while a backup is made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator

from gb10.programs.answer import RefusedError

SCRATCH = "/var/lib/gb10/backup"


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder that is closed to others, empty before and gone after: one backup at a time."""
    os.makedirs(os.path.dirname(SCRATCH), 0o755, exist_ok=True)
    os.makedirs(SCRATCH, 0o700, exist_ok=True)
    os.chmod(SCRATCH, 0o700)
    handle = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RefusedError("LOCKED", "another backup of this node is being made") from None
    _empty(SCRATCH)
    try:
        yield SCRATCH
    finally:
        _empty(SCRATCH)
        os.rmdir(SCRATCH)
        os.close(handle)


def _empty(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
