"""Facts of backups: what lies in a folder of them, and what came of their proofs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.controller.run.messages import Reported, loads
from gb10.facts.backups import BackupEvidence, Backups
from tests.unit.facts.reading import process, run, scalars

ID = "spark-2-20261123T201500Z"
PROOF = {
    "where": "spark-1",
    "node": "spark-2",
    "id": ID,
    "proven": True,
    "reasons": [],
    "codes": [],
    "at": 1795464900.0,
    "sha256": "ab" * 32,
    "created": "2026-11-23T20:15:00Z",
    "opened": True,
    "nodes": None,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a proven backup, one whose summary never came, and what is none."""
    place = tmp_path / "spark-2"
    place.mkdir()
    (place / f"{ID}.tar.gz").write_bytes(b"12345")
    summary = {"created": PROOF["created"], "sha256": PROOF["sha256"], "size": 5, "parts": ["identity"]}
    (place / f"{ID}.json").write_text(json.dumps(summary))
    (place / f"{ID}.proof.json").write_text(json.dumps({"copies": [PROOF]}))
    (place / "spark-2-20261124T000000Z.tar.gz.age").write_bytes(b"123")
    (place / "notes.txt").write_text("mine")
    return tmp_path


def test_a_node_tells_of_its_backups_and_of_their_proofs(folder: Path) -> None:
    whole, half = Backups().process(run(Backups().command(root=str(folder)))) or ()
    assert (whole.id, whole.complete, whole.proven, whole.encrypted, whole.size) == (ID, True, True, False, 5)
    assert (half.complete, half.proven, half.encrypted) == (False, False, True)
    (proof,) = BackupEvidence().process(run(BackupEvidence().command(root=str(folder)))) or ()
    assert (proof.where, proof.id, proof.proven, proof.reasons) == ("spark-1", ID, True, ())


def test_backups_pass_the_pipe_of_the_pyinfra_process(folder: Path) -> None:
    backups = Backups().process(run(Backups().command(root=str(folder))))
    assert loads(pickle.dumps(Reported("spark-2", backups))) == Reported("spark-2", backups)


def test_a_reason_against_a_backup_outweighs_its_proof(folder: Path) -> None:
    refused = {**PROOF, "reasons": ["its archive ends early"], "codes": ["BACKUP_DAMAGED"]}
    (folder / "spark-2" / f"{ID}.proof.json").write_text(json.dumps({"copies": [refused]}))
    (proof,) = BackupEvidence().process(run(BackupEvidence().command(root=str(folder)))) or ()
    assert (proof.proven, proof.codes) == (False, ("BACKUP_DAMAGED",))


def test_without_a_folder_there_is_nothing_to_tell(tmp_path: Path) -> None:
    for fact in (Backups(), BackupEvidence()):
        assert fact.process(run(fact.command(root=str(tmp_path / "absent")))) is None


@given(st.dictionaries(st.sampled_from(sorted(PROOF)), scalars, min_size=1))
def test_garbage_is_understood_or_refused_and_nothing_else(spoiled: dict[str, Any]) -> None:
    copy = {"node": "spark-2", "id": ID, "file": f"{ID}.tar.gz", "file_size": 5, "summary": {}}
    process(BackupEvidence(), [json.dumps([{**copy, "proofs": [{**PROOF, **spoiled}]}])])


def test_a_torn_answer_is_an_error_of_that_host() -> None:
    with pytest.raises(FactProcessError):
        BackupEvidence().process(['[{"node": "spark-2"}]'])
