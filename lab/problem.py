"""The lab's error: what happened and what to do."""

from __future__ import annotations


class LabError(Exception):
    """A failure in the lab: `what` happened, and `cure`, what to do about it."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}\n{cure}")
        self.what = what
        self.cure = cure
