"""Secrets read from a node: nothing of them is printed, whatever pyinfra is told to print."""

from __future__ import annotations

from pyinfra.api.hiddenvalue import HiddenValue


class Secret(HiddenValue):
    """A HiddenValue that the pyinfra CLI can print: it prints the mask."""

    def __init__(self, value: str) -> None:
        super().__init__(value)  # type: ignore[no-untyped-call] # pyinfra leaves it untyped

    def to_json(self) -> str:
        return str(self)
