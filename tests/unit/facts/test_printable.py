"""Text of a node as a terminal may have it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gb10.facts.reading.printable import made_printable, printable


@dataclass(frozen=True)
class Inner:
    words: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    named: dict[str, list[str]] = field(default_factory=dict)
    number: int = 1


@pytest.mark.parametrize("char", ["\r", "\x00", "\x07", "\x08", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028"])
def test_a_character_that_moves_the_cursor_or_the_text_is_escaped(char: str) -> None:
    assert printable(f"a{char}b") == f"a{char.encode('unicode_escape').decode()}b"


def test_newline_tab_and_words_stay() -> None:
    text = "a\n\tb  caf\u00e9 \u4e2d \u05d0 \u2192 \U0001f600\u00a0"
    assert printable(text) == text


def test_every_text_of_a_value_is_made_printable() -> None:
    found = made_printable(Outer(Inner(("a\r", "b")), {"k\x1b": ["\x07"]}))
    assert found == Outer(Inner(("a\\r", "b")), {"k\\x1b": ["\\x07"]})
