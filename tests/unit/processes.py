"""Processes that a test waits for."""

from __future__ import annotations

from pathlib import Path


def is_running(pid: int) -> bool:
    """Return True if the process exists and is not a zombie. It may end at any time, also while it is looked at."""
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False
