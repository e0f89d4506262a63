"""What operations report. The controller gets these objects; under the pyinfra CLI each becomes a line."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.facts.reading.reports import Refused

__all__ = ["Diff", "Foreseen", "Refused"]


@dataclass(frozen=True)
class Note:
    """A line for a person."""

    text: str
    colour: str | None = None

    @property
    def line(self) -> str:
        return self.text


@dataclass(frozen=True)
class Foreseen:
    """What a dry run says that a run would refuse."""

    code: str
    text: str
    colour = "yellow"

    @property
    def line(self) -> str:
        return f"would be refused: {self.code}: {self.text}"


@dataclass(frozen=True)
class Diff:
    """What changes in a file, as lines of a diff."""

    path: str
    is_new: bool
    lines: tuple[str, ...]
    colour = None

    @property
    def title(self) -> str:
        return f"Will {'create' if self.is_new else 'modify'} {self.path}"

    @property
    def line(self) -> str:
        return "\n".join([self.title, *(f"      {line}" for line in self.lines)])
