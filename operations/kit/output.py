"""What commands print, cut down to what a person can read in one line."""

from __future__ import annotations

LONGEST = 300


def last_words(printed: str, lines: int = 3) -> str:
    """Given what a command printed, return its last lines as one, no longer than a person can read."""
    kept = [line.strip() for line in printed.splitlines() if line.strip()]
    return "; ".join(kept[-lines:])[-LONGEST:]


def last_line(printed: str) -> str:
    """Given what a command printed, return its last line that is not empty."""
    return last_words(printed, lines=1) or "it printed nothing"
