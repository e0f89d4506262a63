"""What operations report. The controller gets these objects; under the pyinfra CLI each becomes a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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


@dataclass(frozen=True)
class Check:
    """What came of a check. `code` names the error of a failed one in the catalogue."""

    check: str
    node: str
    outcome: Literal["pass", "fail", "skip"]
    reason: str
    code: str | None = None
    peer: str | None = None
    rail: str | None = None
    measured_gbps: float | None = None

    @property
    def colour(self) -> str:
        return {"pass": "green", "fail": "red", "skip": "yellow"}[self.outcome]

    @property
    def line(self) -> str:
        where = " -> ".join(name for name in (self.node, self.peer) if name)
        return f"{self.outcome}: {self.check} {where}{f' {self.rail}' if self.rail else ''}: {self.reason}"
