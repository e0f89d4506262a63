"""The workshop: a folder in the target folder for incomplete files, with which a later copy can go on."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.copying.places import PARTIAL, SMALL, WORKSHOP

KEEP_SECONDS = 14 * 24 * 3600  # for parts of files that no copy asks for


class Workshop:
    """The workshop of a target folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = os.path.join(root, WORKSHOP)

    @property
    def temporary(self) -> str:
        """The folder for small files and for those of rsync."""
        return os.path.join(self.path, SMALL)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other copies out while the block runs. Raise RefusedError if another copy is running."""
        os.makedirs(self.temporary, exist_ok=True)
        with open(os.path.join(self.path, "lock"), "w") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError("COPY_BUSY", f"another copy into {self.root} is running") from None
            yield

    def clean(self, job: dict[str, Any]) -> None:
        """Remove what killed copies left, except parts with which this copy or a later one can go on."""
        with os.scandir(self.temporary) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
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
        """Remove the workshop, unless it holds parts with which a later copy can go on."""
        if os.path.isdir(self.path) and not [name for name in os.listdir(self.path) if name.endswith(".part")]:
            shutil.rmtree(self.path, ignore_errors=True)
