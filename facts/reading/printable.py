"""Text of a node as a terminal or a log may have it: it moves no cursor, sends no command, and reorders nothing.

Every text of a node passes here: messages of the pyinfra process, reports under the pyinfra CLI, and what the gb10
command reads by itself.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")

# C0 but tab and newline, DEL, C1, line and paragraph separators, and bidirectional marks.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return text with each unsafe character as an escape: "\\\\x1b" for ESC. Newline and tab stay."""
    return UNSAFE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def made_printable(value: Value) -> Value:
    """Make all texts of a value printable. Dataclasses are changed in place."""
    made: Any = value
    match value:
        case str():
            made = printable(value)
        case dict():
            made = {made_printable(key): made_printable(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            made = type(value)(map(made_printable, value))
        case _ if is_dataclass(value):
            for field in fields(value):
                object.__setattr__(value, field.name, made_printable(getattr(value, field.name)))
    return made  # type: ignore[no-any-return] # of the type that it had
