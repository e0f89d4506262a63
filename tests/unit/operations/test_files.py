"""Atomic writes on the controller."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gb10.operations.kit.files import write_atomically


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, "text")
    assert (path.read_text(), mode(path), mode(path.parent)) == ("text", 0o600, 0o700)


@pytest.mark.parametrize(("wanted", "expected"), [(None, 0o644), (0o600, 0o600)])
def test_a_file_keeps_its_mode_unless_another_is_wanted(tmp_path: Path, wanted: int | None, expected: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_atomically(path, "new", wanted)
    assert (path.read_text(), mode(path)) == ("new", expected)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]
