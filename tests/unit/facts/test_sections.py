"""Sections: several commands and files in one round trip."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.reading.launcher import Launch, ProgramFact
from gb10.facts.reading.requests import SECTIONS, sections_job
from gb10.facts.reading.values import Section, read_answer
from gb10.programs import sections
from tests.unit.facts.reading import run


def found(commands: dict[str, str], files: dict[str, str] | None = None) -> dict[str, Section]:
    """What is read on this machine."""
    return read_answer(json.loads(run(Launch(SECTIONS, sections_job(commands, files)))[0]))


def test_each_command_has_a_section_with_its_exit_status() -> None:
    sections = found({"good": "echo a; echo b", "bad": "echo c; exit 3", "absent": "no-such-tool"})
    assert sections == {"good": Section(("a", "b"), 0), "bad": Section(("c",), 3), "absent": Section((), 127)}


def test_a_file_has_a_section_with_the_number_of_its_error(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a\nb\n")
    paths = {"one": f"{tmp_path}/one", "absent": f"{tmp_path}/two", "folder": str(tmp_path)}
    assert found({}, paths) == {
        "one": Section(("a", "b"), 0),
        "absent": Section((), errno.ENOENT),
        "folder": Section((), errno.EISDIR),
    }


def test_more_commands_than_run_together_keep_their_order() -> None:
    commands = {str(number): f"sleep 0.0{9 - number % 10}; echo {number}" for number in range(3 * sections.TOGETHER)}
    assert [section.first for section in found(commands).values()] == list(commands)


def test_output_without_a_final_newline_is_whole() -> None:
    assert found({"one": "printf 'x\\ny'"})["one"].lines == ("x", "y")


def test_only_a_newline_ends_a_line() -> None:
    assert read_answer({"one": [0, "a\u2028b\x0cc\r\n\n"]})["one"].lines == ("a\u2028b\x0cc\r", "")


def test_a_command_cannot_eat_the_next_one_or_wait_for_input() -> None:
    assert found({"cat": "cat", "next": "echo here"})["next"].first == "here"


def test_quotes_reach_the_command_as_they_are() -> None:
    assert found({"it's": "echo \"it's\" '$HOME'"})["it's"].lines == ("it's $HOME",)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_another_answer_is_an_error_of_that_host(answer: Any) -> None:
    class Anything(ProgramFact[dict[str, Section]]):
        def read(self, answer: Any) -> dict[str, Section]:
            return read_answer(answer)

    with contextlib.suppress(FactProcessError):
        Anything().understand(answer)


def test_what_read_raises_becomes_a_fact_error_of_that_host() -> None:
    class Broken(ProgramFact[str]):
        def read(self, answer: Any) -> str:
            return str(answer[7])

    with pytest.raises(FactProcessError, match="Broken does not understand"):
        Broken().process(["[]"])
