"""Digests that are remembered on a node: what changed is read again, and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gb10.programs.digests import SETTLED_NS, sha256_of_all
from tests.unit.programs.launching import SILENT

SIZE = 8 << 20


def bytes_read() -> int:
    """Return how many bytes this process has read."""
    found = re.search(r"^rchar: (\d+)$", Path("/proc/self/io").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def read_by(work: Callable[[], object]) -> int:
    before = bytes_read()
    work()
    return bytes_read() - before


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """Return a file that has not changed for a while."""
    path = tmp_path / "hub" / "blob"
    path.parent.mkdir()
    path.write_bytes(bytes(SIZE))
    time.sleep(SETTLED_NS / 1e9 + 0.1)
    return path


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "gb10" / "digests.json"


def digest(path: Path, memory: Path) -> str | None:
    return sha256_of_all([str(path)], SILENT, str(memory))[str(path)]


def test_a_file_that_has_not_changed_is_not_read_again(blob: Path, memory: Path) -> None:
    assert read_by(lambda: digest(blob, memory)) >= SIZE
    assert read_by(lambda: digest(blob, memory)) < SIZE / 100
    assert digest(blob, memory) == hashlib.sha256(bytes(SIZE)).hexdigest()


def test_a_changed_byte_is_found_under_the_old_size_and_mtime(blob: Path, memory: Path) -> None:
    before, times = digest(blob, memory), blob.stat()
    with blob.open("r+b") as file:
        file.write(b"x")
    os.utime(blob, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (blob.stat().st_size, blob.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert digest(blob, memory) != before
    assert digest(blob, memory) == hashlib.sha256(blob.read_bytes()).hexdigest()


def test_what_changed_just_now_is_read_again(blob: Path, memory: Path) -> None:
    blob.write_bytes(bytes(SIZE))
    digest(blob, memory)
    assert read_by(lambda: digest(blob, memory)) >= SIZE


def test_only_root_can_read_what_is_remembered(blob: Path, memory: Path) -> None:
    digest(blob, memory)
    assert memory.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_without_a_memory_everything_is_read(blob: Path, memory: Path, text: str) -> None:
    memory.parent.mkdir()
    memory.write_text(text)
    assert digest(blob, memory) == hashlib.sha256(bytes(SIZE)).hexdigest()


def test_neither_links_nor_pipes_are_read(blob: Path, memory: Path) -> None:
    link, pipe = blob.parent / "link", blob.parent / "pipe"
    link.symlink_to(blob)
    os.mkfifo(pipe)
    assert digest(link, memory) is digest(pipe, memory) is None
    assert digest(blob.parent / "absent", memory) is None
