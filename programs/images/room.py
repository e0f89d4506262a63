"""Room for images."""

from __future__ import annotations

from os import PathLike

from gb10.programs.answer import RefusedError
from gb10.programs.room import is_short

SPARE_BYTES = 256 << 20  # room that must stay free


def check_room(folder: str | PathLike[str], free: int, needed: int, what: str = "are needed") -> None:
    """Raise RefusedError if a folder with so many bytes free has no room for so many more."""
    if is_short(free, needed, SPARE_BYTES):
        raise RefusedError("DISK_FULL", f"{folder} has {amount(free)} free; {amount(needed)} {what}")


def amount(count: int) -> str:
    """Return a number of bytes as people read it: 1.5 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
