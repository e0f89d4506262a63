"""Names and numbers in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sized

SHOWN = 4  # names before the rest is counted


def count(things: Sized, what: str) -> str:
    """How many there are, in words: "1 model", "2 models"."""
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    found = list(names)
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
