"""Sections: several commands in one round trip."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import Section, read_sections


def printed(commands: dict[str, str]) -> list[str]:
    command = sections(commands).get_raw_value()
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.splitlines()


def test_each_command_prints_a_section_with_its_exit_status() -> None:
    found = read_sections(printed({"good": "echo a; echo b", "bad": "echo c; exit 3", "absent": "no-such-tool"}))
    assert found == {"good": Section(("a", "b"), 0), "bad": Section(("c",), 3), "absent": Section((), 127)}


def test_output_without_a_final_newline_is_whole() -> None:
    assert read_sections(printed({"one": "printf 'x\\ny'"}))["one"].lines == ("x", "y")


def test_a_command_cannot_eat_the_next_one_or_wait_for_input() -> None:
    assert read_sections(printed({"cat": "cat", "next": "echo here"}))["next"].first == "here"


def test_quotes_reach_the_command_as_they_are() -> None:
    assert read_sections(printed({"it's": "echo \"it's\" '$HOME'"}))["it's"].lines == ("it's $HOME",)


def test_an_output_that_ends_within_a_section_is_refused() -> None:
    with pytest.raises(ValueError, match="within section"):
        read_sections(["@@gb10 one", "x"])


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20)))
def test_garbage_either_reads_or_raises_value_error(lines: list[str]) -> None:
    with contextlib.suppress(ValueError):
        read_sections(lines)


def test_what_process_raises_becomes_a_fact_error_of_that_host() -> None:
    class Broken:
        @understood
        def process(self, output: list[str]) -> str:
            return output[7]

    with pytest.raises(FactProcessError, match="Broken does not understand"):
        Broken().process([])
