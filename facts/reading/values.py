"""Values of facts, and the sections of output that they are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FactValue:
    """A typed result of a fact. The pyinfra CLI prints it by `to_json`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Section:
    """The output of one command and its exit status, or a file and the number of its error."""

    lines: tuple[str, ...]
    status: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def printed(self) -> tuple[str, ...]:
        """The lines. Raise ValueError if the command failed."""
        if self.status != 0:
            raise ValueError(f"a command ended with status {self.status}")
        return self.lines

    @property
    def first(self) -> str | None:
        """The first line, or None if the command failed or printed nothing."""
        return self.lines[0] if self.status == 0 and self.lines else None


def read_answer(answer: Mapping[str, Any]) -> dict[str, Section]:
    """Given the answer of programs/sections.py, return the sections by name. Raise an error for anything else."""
    return {name: Section(_lines(text), int(status)) for name, (status, text) in answer.items()}


def _lines(text: str) -> tuple[str, ...]:
    # Not splitlines(): names may hold what it takes for the end of a line.
    return tuple(text.removesuffix("\n").split("\n")) if text else ()
