"""What operations report. The controller gets these objects; under the pyinfra CLI each becomes a line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """A line for a person."""

    text: str
    colour: str | None = None

    @property
    def line(self) -> str:
        return self.text
