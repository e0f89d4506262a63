"""Several commands in one round trip: each prints a section of its own, and none can fail the others.

The contract: a section keeps its command's exit status, so that "the tool is absent" (127) and "the tool printed
nothing" never look alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """What one command printed, and its exit status."""

    lines: tuple[str, ...]
    status: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def first(self) -> str | None:
        """The first line, or None where the command failed or printed nothing."""
        return self.lines[0] if self.status == 0 and self.lines else None


def read_sections(output: list[str]) -> dict[str, Section]:
    """Given what `sections` printed, return the sections by name. Raise ValueError for an incomplete print."""
    found: dict[str, Section] = {}
    name: str | None = None
    lines: list[str] = []
    for line in output:
        if line.startswith("@@gb10 "):
            name, lines = line.removeprefix("@@gb10 "), []
        elif line.startswith("@@gb10= ") and name is not None:
            if lines and not lines[-1]:
                lines.pop()  # the newline that was printed before the mark
            found[name] = Section(tuple(lines), int(line.removeprefix("@@gb10= ")))
            name = None
        elif name is not None:
            lines.append(line)
    if name is not None:
        raise ValueError(f"the output ends within section {name}")
    return found


def read_answer(answer: Mapping[str, Any]) -> dict[str, Section]:
    """Given the answer of programs/sections.py, return the sections by name. Raise ValueError for anything else."""
    return {name: Section(tuple(text.splitlines()), int(status)) for name, (status, text) in answer.items()}
