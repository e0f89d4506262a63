"""Reports of operations: objects for the controller, lines of text under the pyinfra CLI."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

INDENT = " " * 6  # of the lines of a diff


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
    """A refusal that a dry run foresees."""

    code: str
    text: str
    colour = "yellow"

    @property
    def line(self) -> str:
        return f"would be refused: {self.code}: {self.text}"


@dataclass(frozen=True)
class Diff:
    """Changes in a file, as lines of a diff."""

    path: str
    is_new: bool
    lines: tuple[str, ...]

    @property
    def colour(self) -> dict[str, str]:
        return {f"{INDENT}-": "red", f"{INDENT}+": "green"}

    @property
    def title(self) -> str:
        return f"Will {'create' if self.is_new else 'modify'} {self.path}"

    @property
    def line(self) -> str:
        return "\n".join([self.title, *(f"{INDENT}{line}" for line in self.lines)])


@dataclass(frozen=True)
class Check:
    """The result of a check. `code` is the error code of a failed one."""

    check: str
    node: str
    outcome: Literal["pass", "fail", "skip"]
    reason: str
    code: str | None = None
    peer: str | None = None
    rail: str | None = None
    measured_gbps: float | None = None

    def failed(self, code: str, reason: str) -> Check:
        return replace(self, outcome="fail", code=code, reason=reason)

    @property
    def colour(self) -> str:
        return {"pass": "green", "fail": "red", "skip": "yellow"}[self.outcome]

    @property
    def line(self) -> str:
        where = " -> ".join(name for name in (self.node, self.peer) if name)
        return f"{self.outcome}: {self.check} {where}{f' {self.rail}' if self.rail else ''}: {self.reason}"
