"""Removes files, links and empty folders from the target, as a copy was asked to."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.confined import real


def main(job: dict[str, Any], outlet: Outlet) -> None:
    """Remove job["paths"] below job["root"], the deepest first. A folder that is not empty stays."""
    root = real(job["root"])
    for path in job["paths"]:
        full = os.path.join(root, path)
        folder = os.path.realpath(os.path.dirname(full))
        if folder != root and not folder.startswith(root + "/"):
            raise RefusedError("COPY_FAILED", f"{path!r} lies outside of {root}")
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(full).st_mode):
                with suppress(OSError):
                    os.rmdir(full)
            else:
                os.unlink(full)
