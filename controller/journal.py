"""The journal of a long run, which can be killed at any time and resumed.

A journal is a file with one JSON object a line. Lines are only appended, and each is on the disk before the action that
it announces. It holds what facts cannot show any more, and nothing secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.paths import private_folder
from gb10.programs.files import sync_folder

VERSION = 1
FOLDER = "journal"
SUFFIX = ".jsonl"

Record = dict[str, Any]  # "v", "at" (UTC), "event", and what belongs to that event


@dataclass(frozen=True)
class Torn:
    """A line that a crash cut off. The action that it announced had not begun."""

    text: str


class Journal:
    """The journal of one run, with its records so far."""

    def __init__(self, path: Path, records: Iterable[Record] = ()) -> None:
        self.path = path
        self.records = list(records)
        self._descriptor: int | None = None

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.path.name.removesuffix(SUFFIX)

    @classmethod
    def create(cls, name: str, folder: Path | None = None) -> Journal:
        """Create the journal of a new run. Raise FileExistsError if the name is taken."""
        path = (folder or private_folder(FOLDER)) / f"{name}{SUFFIX}"
        with _explained(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(str(path.parent))
        return cls(path)

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read a journal. Raise JOURNAL_BROKEN if it is damaged, or of a newer gb10."""
        return cls(path, read_records(path))

    def take_over(self, records: Iterable[Record]) -> None:
        """Append the records of another journal to the disk."""
        for record in records:
            self._add(record)

    def write(self, event: str, **details: Any) -> Record:
        """Append a record to the disk. Raise STATE_UNWRITABLE if that fails; the file is unchanged then."""
        return self._add({"v": VERSION, "at": now(), "event": event, **details})

    def _add(self, record: Record) -> Record:
        with _explained(self.path):
            if self._descriptor is None:
                self._descriptor = self._open()
            _append(self._descriptor, f"{json.dumps(record, ensure_ascii=True)}\n".encode())
        self.records.append(record)
        return record

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # Mark the line that a crash cut off: a damaged line is accepted only before this mark.
                torn = json.dumps({"v": VERSION, "at": now(), "event": "torn"})
                _append(descriptor, f"\n{torn}\n".encode())
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def of(self, event: str, **details: Any) -> Iterator[Record]:
        """Yield the records of an event that have these details, oldest first."""
        for record in self.records:
            if record["event"] == event and all(record.get(key) == value for key, value in details.items()):
                yield record

    def last(self, event: str, **details: Any) -> Record | None:
        """Return the newest of these records, or None."""
        return next(iter(reversed(list(self.of(event, **details)))), None)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise STATE_UNWRITABLE for errors of the disk."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        text = f"the journal {path} cannot be written: {error.strerror or error}"
        raise Gb10Error("STATE_UNWRITABLE", text, path=str(path)) from error


def _append(descriptor: int, data: bytes) -> None:
    """Append to a file and sync it. If that fails, restore the old size."""
    size = os.fstat(descriptor).st_size
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def read_records(path: Path) -> list[Record]:
    """Return the records of a journal. Raise JOURNAL_BROKEN if it is damaged, or of a newer version."""
    return parse_records(path.read_bytes(), path)


def parse_records(content: bytes, path: Path | str) -> list[Record]:
    """Return the records in the content of a journal; the path is for errors. Raise JOURNAL_BROKEN as above.

    A last line that was cut off does not count, also after the journal was continued.
    """
    lines = content.split(b"\n")
    parsed = [_parse(line) for line in lines[:-1]]
    records: list[Record] = []
    for number, (record, following) in enumerate(zip_longest(parsed, parsed[1:]), start=1):
        if isinstance(following, dict) and following["event"] == "torn":
            continue  # even if only its newline is missing: its action had not begun
        if isinstance(record, Torn):
            raise Gb10Error("JOURNAL_BROKEN", f"line {number} of {path} is damaged", path=str(path))
        if record["v"] > VERSION:
            text = f"{path} was written by a newer gb10 (version {record['v']} of the journal)"
            raise Gb10Error("JOURNAL_BROKEN", text, path=str(path))
        if record["event"] != "torn":
            records.append(record)
    return records


def _parse(line: bytes) -> Record | Torn:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return Torn(line.decode(errors="replace"))
    sound = isinstance(record, dict) and isinstance(record.get("v"), int) and isinstance(record.get("event"), str)
    return record if sound else Torn(line.decode(errors="replace"))


def journals(folder: Path | None = None) -> list[Path]:
    """Return the journals of this controller, oldest first."""
    return sorted((folder or private_folder(FOLDER)).glob(f"*{SUFFIX}"))


def now() -> str:
    """Return the time in UTC, to the millisecond: "2026-11-23T21:41:14.532Z"."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """Parse a time that `now` returned."""
    return datetime.fromisoformat(text)
