"""The journal: what is written is there, whatever a crash cut off, and nothing damaged is believed."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process can grow beyond that many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fits", [0, 1, 20])
def test_a_record_that_the_disk_takes_only_half_counts_for_nothing_and_the_journal_goes_on(
    tmp_path: Path, fits: int
) -> None:
    journal = written(tmp_path, [("step-began", 1)])
    with room_for(journal.path.stat().st_size + fits):
        for _ in range(2):  # that a step has failed cannot be written either
            with pytest.raises(Gb10Error, match="cannot be written") as refused:
                journal.write("step-done", value=2)
            assert refused.value.code == "STATE_UNWRITABLE"
    assert [record["value"] for record in journal.records] == [1]
    assert read_records(journal.path) == journal.records
    journal.write("step-done", value=3)
    assert [record["value"] for record in read_records(journal.path)] == [1, 3]


def test_a_line_that_a_crash_cut_off_cannot_be_closed_on_a_full_disk_and_is_closed_later(tmp_path: Path) -> None:
    journal = written(tmp_path, [("step-began", 1)])
    with journal.path.open("ab") as stream:
        stream.write(b'{"v": 1, "ev')
    again = Journal.load(journal.path)
    with room_for(journal.path.stat().st_size + 5), pytest.raises(Gb10Error, match="cannot be written"):
        again.write("step-done", value=2)
    descriptors = len(os.listdir("/proc/self/fd"))
    again.write("step-done", value=3)
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1
    assert [record["value"] for record in read_records(journal.path)] == [1, 3]
