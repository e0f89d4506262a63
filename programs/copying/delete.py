"""Removes named files, links and empty folders below a root: what a copy was asked to delete on the target.

This file runs on the target, as text for its own python3: standard library only.
"""

import os
import stat
import sys
from contextlib import suppress
from typing import Any


def main(job: dict[str, Any]) -> None:
    """Given "root" and "paths", the deepest first, remove them. A folder that is not empty stays."""
    root = os.path.realpath(job["root"])
    for path in job["paths"]:
        full = os.path.join(root, path)
        folder = os.path.realpath(os.path.dirname(full))
        if folder != root and not folder.startswith(root + "/"):
            sys.exit(f"gb10: COPY_FAILED: {path!r} lies outside of {root}")
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(full).st_mode):
                with suppress(OSError):
                    os.rmdir(full)
            else:
                os.unlink(full)
