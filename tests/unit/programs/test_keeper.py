"""A node that keeps backups of others, run from text by the python3 of Ubuntu."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gb10.programs.archive.files import digest
from gb10.programs.archive.manifest import summary_of
from gb10.programs.backups.store import ProofResult
from tests.unit.programs.launching import launched, streamed, ubuntu_python
from tests.unit.programs.test_archive import made

NODE, ID = "spark-2", "spark-2-20260102T030405Z"
KEEPER = "gb10.programs.backups.keeper"


@pytest.fixture
def backup(tmp_path: Path) -> tuple[bytes, dict[str, Any]]:
    """An archive and its summary."""
    tree = tmp_path / "node"
    (tree / "etc/ssh").mkdir(parents=True)
    (tree / "etc/hostname").write_text("spark-2\n")
    (tree / "etc/ssh/large").write_bytes(os.urandom(3_000_000))
    content, manifest = made(tree)
    return content, summary_of(manifest, digest(content), len(content), False)


@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_a_keeper_receives_proves_and_returns_a_backup(
    tmp_path: Path, backup: tuple[bytes, dict[str, Any]], version: str
) -> None:
    content, summary = backup
    python, root = ubuntu_python(version) or sys.executable, str(tmp_path / "store")
    job = {"root": root, "summary": summary, "where": "spark-1", "count": 1, "days": None}
    kept = launched(f"{KEEPER}:keep", job, content, python)
    assert (kept.complete, kept.refusal) == (True, None), kept.others
    task = {"root": root, "node": NODE, "id": ID, "where": "spark-1", "expected": {"node": NODE}, "trusted": None}
    proof = ProofResult.from_json(launched(f"{KEEPER}:prove_here", task, python=python).value)
    assert (proof.where, proof.opened, proof.sha256) == ("spark-1", True, summary["sha256"])
    answer, sent = streamed(f"{KEEPER}:give", {"root": root, "node": NODE, "id": ID}, python=python)
    assert (sent, answer.value) == (content, summary)


def test_a_truncated_archive_is_refused(tmp_path: Path, backup: tuple[bytes, dict[str, Any]]) -> None:
    content, summary = backup
    root = tmp_path / "store"
    job = {"root": str(root), "summary": summary, "where": "spark-1", "count": 1, "days": None}
    answer = launched(f"{KEEPER}:keep", job, content[:-1])
    assert (answer.refusal or ("",))[0] == "BACKUP_FAILED"
    assert not list((root / NODE).iterdir())


def test_a_full_keeper_and_a_missing_backup_are_reported(tmp_path: Path, backup: tuple[bytes, dict[str, Any]]) -> None:
    huge = {**backup[1], "size": 1 << 60}
    job = {"root": str(tmp_path / "store"), "summary": huge, "where": "spark-1", "count": 1, "days": None}
    assert (launched(f"{KEEPER}:keep", job).refusal or ("",))[0] == "KEEPER_FULL"
    answer = launched(f"{KEEPER}:give", {"root": str(tmp_path / "store"), "node": NODE, "id": ID})
    assert (answer.refusal or ("",))[0] == "BACKUP_MISSING"


@pytest.mark.parametrize("node", ["../../etc/logrotate.d", "../..", ".."])
def test_a_keeper_refuses_names_that_are_paths(tmp_path: Path, backup: tuple[bytes, dict[str, Any]], node: str) -> None:
    content, summary = backup
    (tmp_path / "a/b").mkdir(parents=True, mode=0o755)
    root, before = str(tmp_path / "a/b/store"), sorted(tmp_path.rglob("*"))
    named = {"node": node, "id": f"{node}-20260102T030405Z"}
    job = {"root": root, "summary": {**summary, **named}, "where": "spark-1", "count": 1, "days": None}
    task = {"root": root, **named, "where": "spark-1", "expected": {"node": node}, "trusted": None}
    for answer in (
        launched(f"{KEEPER}:keep", job, content),
        launched(f"{KEEPER}:prove_here", task),
        launched(f"{KEEPER}:give", task),
    ):
        assert (answer.refusal or ("",))[0] == "BACKUP_UNSAFE"
    assert sorted(tmp_path.rglob("*")) == before
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a/b")} == {0o755}
