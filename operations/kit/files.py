"""Files on the controller, replaced as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gb10.programs.files import finish


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write a file so that a reader sees the old text or the new one, also after a crash.

    A symbolic link stays: the file that it points to is replaced. Without a mode the file keeps its own; new files and
    folders are for their owner only.
    """
    place = path.resolve()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if mode is None:
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o600
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)  # made with 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            finish(file, unfinished, place)
    except BaseException:
        os.unlink(unfinished)
        raise
