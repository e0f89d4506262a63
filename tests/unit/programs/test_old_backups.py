"""Backups of an earlier gb10, with summaries and proof results, are still read."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest

from gb10.operations.backups.restore_source import LATEST, open_backup
from gb10.programs.archive.manifest import agree
from gb10.programs.archive.reading import check
from gb10.programs.backups.proof import prove
from gb10.programs.backups.store import is_proven, is_whole, read_proofs, read_summary
from tests.unit.programs.unpacking import differences, unpack_with_attributes

SAMPLES = Path(__file__).parent / "samples" / "backups"
NODE, ID = "spark-2", "spark-2-20261123T201500Z"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with an old backup."""
    shutil.copytree(SAMPLES, tmp_path / "store")
    return str(tmp_path / "store")


def test_an_old_archive_is_unpacked_as_it_was(store: str, tmp_path: Path) -> None:
    content = (Path(store) / NODE / f"{ID}.tar.gz").read_bytes()
    manifest = unpack_with_attributes(content, str(tmp_path / "out"))
    assert not list(differences(str(tmp_path / "out"), manifest))
    agree(manifest, read_summary(store, NODE, ID))
    assert check(io.BytesIO(content)) == manifest
    by_name = {os.path.basename(member.path): member for member in manifest.members}
    assert (by_name["hostname"].type, by_name["name"].type, by_name["localtime"].type) == ("f", "h", "l")
    assert by_name["ssh_host_ed25519_key"].mode == 0o600
    assert list(by_name["large"].xattrs) == ["user.origin"]
    assert "\udcff odd" in by_name
    assert [(os.path.basename(note.path), note.harms) for note in manifest.notes] == [("pipe", False)]


def test_old_proof_results_are_accepted(store: str) -> None:
    assert [(one.where, one.proven) for one in read_proofs(store, NODE, ID)] == [
        ("controller", True),
        ("spark-1", False),
    ]
    assert is_proven(store, NODE, ID, "controller")
    assert not is_proven(store, NODE, ID, "spark-1")
    backup = open_backup(store, NODE, LATEST, None)
    assert (backup.id, backup.proven) == (ID, True)


def test_an_old_backup_is_proven_again(store: str) -> None:
    assert is_whole(store, NODE, ID)
    found = prove(store, {"node": NODE, "id": ID, "where": "controller", "expected": {"node": NODE}})
    assert (found.proven, found.opened) == (True, True), found


def test_contradictory_proof_results_are_ignored(store: str) -> None:
    path = Path(store) / NODE / f"{ID}.proof.json"
    path.write_text(path.read_text().replace('"codes": [],', '"codes": ["BACKUP_DAMAGED"],'))
    assert not is_proven(store, NODE, ID, "controller")
