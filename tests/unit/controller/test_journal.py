"""The journal: what is written is there, whatever a crash cut off, and nothing damaged is believed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gb10.controller.errors import Gb10Error
from gb10.controller.journal import VERSION, Journal, read_records

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
RECORDS = st.lists(
    st.tuples(st.sampled_from(["step-began", "step-done", "remembered"]), VALUES), min_size=1, max_size=8
)
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)


def written(folder: Path, records: list[tuple[str, object]]) -> Journal:
    path = folder / "run.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal.create("run", folder)
    for event, value in records:
        journal.write(event, value=value)
    journal.close()
    return journal


@SAME_FOLDER
@given(RECORDS)
def test_what_was_written_is_read(tmp_path: Path, records: list[tuple[str, object]]) -> None:
    journal = written(tmp_path, records)
    assert Journal.load(journal.path).records == journal.records


@SAME_FOLDER
@given(RECORDS, st.data())
def test_a_line_that_was_cut_off_counts_as_not_written_also_when_the_journal_goes_on(
    tmp_path: Path, records: list[tuple[str, object]], data: st.DataObject
) -> None:
    journal = written(tmp_path, records)
    content = journal.path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    journal.path.write_bytes(content[: data.draw(st.integers(last, len(content) - 1))])

    again = Journal.load(journal.path)
    assert again.records == journal.records[:-1]
    again.write("step-done", value=1)
    again.close()
    assert [record.get("value") for record in read_records(journal.path)] == [*(v for _, v in records[:-1]), 1]


def test_a_damaged_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    journal = written(tmp_path, [("step-began", 1), ("step-done", 2), ("step-done", 3)])
    lines = journal.path.read_bytes().split(b"\n")
    lines[1] = lines[1][:10]
    journal.path.write_bytes(b"\n".join(lines))
    with pytest.raises(Gb10Error, match="line 2"):
        Journal.load(journal.path)


def test_the_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"v": VERSION + 1, "event": "started"}) + "\n")
    with pytest.raises(Gb10Error, match="newer"):
        Journal.load(path)


def test_a_journal_is_for_its_owner_alone_and_never_begun_twice(tmp_path: Path) -> None:
    journal = Journal.create("run", tmp_path)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Journal.create("run", tmp_path)
