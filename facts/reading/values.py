"""Values of facts, and the sections of output that they are read from.

A section keeps its command's exit status, so that "the tool is absent" (127) and "the tool printed nothing" never look
alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter


@dataclass(frozen=True)
class FactValue:
    """A typed result of a fact. The pyinfra CLI prints it by `to_json`: its fields, and the properties in `also`."""

    also: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        names = [*(field.name for field in fields(self)), *self.also]
        return {name: _json(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Return the value that a document describes. Raise ValueError if it describes none."""
        value: Self = TypeAdapter(cls).validate_python(document)
        return value


def _json(value: Any) -> Any:
    if isinstance(value, FactValue):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return list(map(_json, value)) if isinstance(value, list | tuple) else value


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


Sections = Mapping[str, Section]  # by name


def read_answer(answer: Mapping[str, Any]) -> dict[str, Section]:
    """Given the answer of programs/sections.py, return its sections. Raise an error for anything else."""
    return {name: Section(_lines(text), int(status)) for name, (status, text) in answer.items()}


def _lines(text: str) -> tuple[str, ...]:
    # Not splitlines(): file names may contain characters that it splits at.
    return tuple(text.removesuffix("\n").split("\n")) if text else ()
