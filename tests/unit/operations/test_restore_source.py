"""The backup that a restore takes: the newest proven one from before the wipe, or a named one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gb10.operations.backups.restore_source import LATEST, Backup, open_backup
from gb10.programs.answer import RefusedError
from gb10.programs.backups.store import write_proofs
from tests.unit.programs.test_backup_proof import MACHINE, made, proof, refused, stored

DAYS = ("20260101", "20260102", "20260103")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """What a node is known by."""
    (tmp_path / "node/etc/ssh").mkdir(parents=True)
    (tmp_path / "node/etc/hostname").write_text("spark-1\n")
    with_keys(tmp_path / "node", "old")
    return tmp_path / "node"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def with_keys(node: Path, keys: str) -> Path:
    """The node under other host keys."""
    (node / "etc/ssh/ssh_host_ed25519_key").write_text(keys)
    (node / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"ssh-ed25519 {keys}\n")
    return node


def kept(node: Path, store: Path, day: str, installation: str, *, proven: bool = True) -> str:
    """A backup of one installation of the node, as the controller keeps it; return its id."""
    machine = {**MACHINE, "machine_id": installation}
    backup = stored(store, made(node, f"spark-1-{day}T000000Z", role=None, cluster=None, machine=machine))
    if proven:
        result = proof(store, backup)
        assert result.proven, result
        write_proofs(str(store), "spark-1", backup, [result])
    return backup


def latest(store: Path) -> Backup:
    return open_backup(str(store), "spark-1", LATEST, None)


def test_the_latest_backup_is_the_newest_that_is_proven(node: Path, store: Path) -> None:
    old = kept(node, store, DAYS[0], "a", proven=False)
    assert (latest(store).id, latest(store).proven) == (old, False)
    good, bad = kept(node, store, DAYS[1], "a"), kept(node, store, DAYS[2], "a", proven=False)
    found = latest(store)
    assert (found.id, found.proven, found.passed_over) == (good, True, (bad,))
    damaged = refused(proof(store, bad), ("BACKUP_DAMAGED", "its content has changed"))
    write_proofs(str(store), "spark-1", bad, [damaged])
    assert latest(store).id == good
    named = open_backup(str(store), "spark-1", bad, None)
    assert (named.id, named.proven, named.reasons) == (bad, False, ("its content has changed",))


def test_the_word_of_another_node_proves_nothing_here(node: Path, store: Path) -> None:
    backup = kept(node, store, DAYS[0], "a", proven=False)
    write_proofs(str(store), "spark-1", backup, [replace(proof(store, backup), where="spark-2")])
    assert not latest(store).proven
    path = store / "spark-1" / f"{backup}.tar.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RefusedError, match="not the file"):
        latest(store)


def test_host_keys_reveal_a_backup_made_after_a_wipe(node: Path, store: Path) -> None:
    before = kept(node, store, DAYS[0], "a")
    assert latest(store).before_wipe() is None
    kept(with_keys(node, "new"), store, DAYS[1], "b")
    assert latest(store).before_wipe() == before
    kept(with_keys(node, "old"), store, DAYS[2], "b")  # it has been restored
    assert latest(store).before_wipe() is None
