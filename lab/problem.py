"""What goes wrong in the lab, told in two sentences."""

from __future__ import annotations


class LabError(Exception):
    """`what` happened, and `cure`: what to do about it."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}\n{cure}")
        self.what = what
        self.cure = cure
