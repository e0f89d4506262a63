"""Proofs of backups: changed ones are refused, intact ones proven, old ones removed except the last proven one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.backups import evidence_for, local_backups
from gb10.facts.reading.backups import read_backups
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import digest
from gb10.programs.archive.manifest import encode_summary, summary_of
from gb10.programs.archive.reading import check
from gb10.programs.archive.writing import Writer
from gb10.programs.backups.proof import PROVING, prove
from gb10.programs.backups.store import (
    UNTRIED,
    ProofResult,
    check_names,
    checked_summary,
    is_proven,
    made_at,
    made_seconds,
    node_folder,
    prune,
    receive,
    write_proofs,
)

SERVER = "var/lib/rancher/k3s/server"
MACHINE = {"hostname": "spark-1", "machine_id": "a1", "macs": {"enP7s7": "02:00:00:00:00:01"}, "architecture": "arm64"}
CLUSTER = {"nodes": ["spark-1", "spark-2"], "releases": ["gpu-operator/sh.helm.release.v1.gpu-operator.v1"]}
ROWS = ["minions/spark-1", "minions/spark-2", f"secrets/{CLUSTER['releases'][0]}", "minions/gone"]


def database(path: Path, password: str, rows: list[str]) -> None:
    """Create a datastore like kine's: each revision is a row, and the last one may be a deletion."""
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, deleted INTEGER, value BLOB)")
        seal = hashlib.sha256(password.encode()).hexdigest()[:12]
        made.execute("INSERT INTO kine (name, deleted, value) VALUES (?, 0, 'sealed')", (f"/bootstrap/{seal}",))
        for row in (*rows, *rows):
            made.execute("INSERT INTO kine (name, deleted, value) VALUES (?, 0, 'x')", (f"/registry/{row}",))
        made.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/minions/gone', 1)")


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """The files of a head node."""
    root = tmp_path / "head"
    for folder in ("etc/ssh", "etc/rancher/k3s", f"{SERVER}/db", f"{SERVER}/tls"):
        (root / folder).mkdir(parents=True)
    (root / "etc/hostname").write_text("spark-1\n")
    (root / "etc/ssh/ssh_host_ed25519_key").write_bytes(os.urandom(400))
    (root / SERVER / "tls/server-ca.crt").write_text("the certificate\n")
    authority = hashlib.sha256(b"the certificate\n").hexdigest()
    (root / SERVER / "token").write_text(f"K10{authority}::server:secret\n")
    database(root / SERVER / "db/state.db", "secret", ROWS)
    return root


def created(backup: str) -> str:
    when = time.strptime(made_at(backup), "%Y%m%dT%H%M%SZ")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", when)


def made(root: Path, backup: str = "", notes: list[tuple[str, str, bool]] | None = None, **about: Any) -> bytes:
    """Return a backup of these files, as if they were a node's."""
    out = io.BytesIO()
    writer = Writer(out, str(root.parent), str(root))
    for path in sorted(root.rglob("*")):
        writer.add(str(path), "system")
    for note in notes or []:
        writer.note(*note)
    known = {"role": "server", "machine": MACHINE, "versions": {}, "cluster": CLUSTER, **about}
    backup = backup or f"spark-1-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    writer.close(id=backup, node=backup.rpartition("-")[0], created=created(backup), about=known)
    return out.getvalue()


def stored(folder: Path, content: bytes) -> str:
    """Put a new backup into a store and return its id."""
    manifest = check(io.BytesIO(content))
    summary = summary_of(manifest, digest(content), len(content), False)
    receive(str(folder), summary, [content])
    return manifest.id


def proof(folder: Path, backup: str, node: str = "spark-1", **expected: Any) -> ProofResult:
    """Prove a backup of a store."""
    job = {"where": "controller", "node": node, "id": backup, "expected": {"node": node, **expected}}
    return prove(str(folder), job)


def refused(one: ProofResult, *reasons: tuple[str, str]) -> ProofResult:
    """Return the result with reasons against the copy."""
    return replace(one, sha256=None, reasons=reasons)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_sound_backup_of_a_head_is_proven(head: Path, store: Path) -> None:
    backup = stored(store, made(head))
    found = proof(store, backup, macs=["02:00:00:00:00:01"], architecture="arm64", machine_id="a1", most_age_seconds=60)
    assert found.proven, found
    assert (found.opened, found.nodes) == (True, ("spark-1", "spark-2"))
    assert not list((store / PROVING).iterdir())


def reason(head: Path, store: Path, expected: dict[str, Any] | None = None, **about: Any) -> tuple[str, str]:
    """Return the code and the text of the refusal of a head's backup."""
    found = proof(store, stored(store, made(head, **about)), **(expected or {}))
    assert not found.proven
    return found.reasons[0]


@pytest.mark.parametrize(
    ("expected", "code", "text"),
    [
        ({"macs": ["02:00:00:00:00:99"]}, "BACKUP_FOREIGN", "another machine"),
        ({"architecture": "amd64"}, "BACKUP_FOREIGN", "arm64, not amd64"),
        ({"machine_id": "b2"}, "BACKUP_STALE", "no longer has"),
    ],
)
def test_a_backup_of_another_machine_is_refused(
    head: Path, store: Path, expected: dict[str, Any], code: str, text: str
) -> None:
    assert (reason(head, store, expected)[0], text in reason(head, store, expected)[1]) == (code, True)


def test_an_old_backup_is_refused_and_keeps_its_proof(head: Path, store: Path) -> None:
    backup = stored(store, made(head, "spark-1-20260101T000000Z"))
    sound = proof(store, backup)
    write_proofs(str(store), "spark-1", backup, [sound])
    old = proof(store, backup, most_age_seconds=3600)
    assert (old.proven, old.codes) == (False, ("BACKUP_STALE",))
    write_proofs(str(store), "spark-1", backup, [old])
    assert is_proven(str(store), "spark-1", backup, "controller")


def test_another_nodes_backup_is_refused_under_any_name(head: Path, store: Path) -> None:
    other = stored(store, made(head, "spark-2-20260101T000000Z"))
    assert proof(store, other, node="spark-2").proven is True
    (store / "spark-1").mkdir()
    for suffix in (".tar.gz", ".json"):
        for name in (other, "spark-1-20260101T000000Z"):
            (store / "spark-1" / f"{name}{suffix}").write_bytes((store / "spark-2" / f"{other}{suffix}").read_bytes())
    assert proof(store, other).codes == ("BACKUP_FOREIGN",)
    assert proof(store, "spark-1-20260101T000000Z").codes[:2] == ("BACKUP_FOREIGN", "BACKUP_FOREIGN")


def test_a_damaged_database_is_named(head: Path, store: Path) -> None:
    path = head / SERVER / "db/state.db"
    content = bytearray(path.read_bytes())
    content[4096:6000] = os.urandom(1904)
    path.write_bytes(content)
    code, text = reason(head, store)
    assert (code, "database" in text) == ("BACKUP_DATABASE", True)


def test_a_database_of_another_token_is_refused(head: Path, store: Path) -> None:
    (head / SERVER / "db/state.db").unlink()
    database(head / SERVER / "db/state.db", "another", ROWS)
    assert "another token" in reason(head, store)[1]


def test_a_token_of_another_cluster_is_refused(head: Path, store: Path) -> None:
    (head / SERVER / "tls/server-ca.crt").write_text("another certificate\n")
    assert "another cluster" in reason(head, store)[1]


@pytest.mark.parametrize(
    ("cluster", "lacking"),
    [
        ({**CLUSTER, "nodes": ["spark-1", "gone"]}, "node gone"),
        ({**CLUSTER, "releases": ["x/y"]}, "Helm release x/y"),
    ],
)
def test_a_database_without_the_clusters_objects_is_refused(
    head: Path, store: Path, cluster: dict[str, Any], lacking: str
) -> None:
    code, text = reason(head, store, cluster=cluster)
    assert (code, lacking in text) == ("BACKUP_DATABASE", True)


@pytest.mark.parametrize(
    "path", ["etc/ssh/ssh_host_ed25519_key", "etc/hostname", f"{SERVER}/token", f"{SERVER}/db/state.db"]
)
def test_a_backup_without_required_files_is_refused(head: Path, store: Path, path: str) -> None:
    (head / path).unlink()
    assert reason(head, store)[0] == "BACKUP_INCOMPLETE"


def test_unreadable_files_keep_a_backup_from_being_proven(head: Path, store: Path) -> None:
    code, text = reason(head, store, notes=[("/etc/x", "cannot be read: Input/output error", True)])
    assert (code, "/etc/x" in text) == ("BACKUP_INCOMPLETE", True)


def test_a_backup_from_the_future_is_not_fresh(head: Path, store: Path) -> None:
    ahead = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + 86400))
    found = proof(store, stored(store, made(head, f"spark-1-{ahead}")), most_age_seconds=3600)
    assert (found.codes, "future" in found.texts[0]) == (("BACKUP_STALE",), True)


EVIL = ["../../etc/logrotate.d", "../..", "..", ".", "/etc", "", "spark-1/..", "spark-1\n", "spark-1\0", "\u0661"]


@pytest.mark.parametrize("node", EVIL)
def test_a_summary_chooses_no_folder(head: Path, store: Path, tmp_path: Path, node: str) -> None:
    content = made(head)
    sound = summary_of(check(io.BytesIO(content)), digest(content), len(content), False)
    before = sorted(tmp_path.rglob("*"))
    for summary in ({**sound, "node": node}, {**sound, "id": f"{node}-20260101T000000Z"}, {**sound, "id": node}):
        with pytest.raises(RefusedError) as refusal:
            receive(str(store), summary, [content])
        assert refusal.value.code == "BACKUP_UNSAFE"
        with pytest.raises(RefusedError):
            checked_summary(summary, "spark-1", sound["id"])
    with pytest.raises(RefusedError):
        node_folder(str(store), node)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_impossible_time_is_no_backup(store: Path) -> None:
    for when in ("99999999T999999Z", "20260101T000000Z\n", "\u0662\u0660260101T000000Z"):
        with pytest.raises(RefusedError):
            check_names("spark-1", f"spark-1-{when}")


def test_a_listing_with_evil_names_lists_only_sound_ones() -> None:
    row = {"file": "x.tar.gz", "file_size": 1, "summary": {}, "proofs": []}
    sound = {**row, "node": "spark-1", "id": "spark-1-20260101T000000Z"}
    evil = [{**row, "node": node, "id": f"{node}-20260101T000000Z"} for node in EVIL]
    found = read_backups([*evil, sound, {**sound, "id": "spark-1-../../x-20260101T000000Z"}])
    assert [copy.id for copy in found or ()] == [sound["id"]]


# 500 changed ones -----------------------------------------------------------------------------------------------------

Files = dict[str, bytes]  # suffix -> content
CHOSEN = random.Random(5)  # noqa: S311 - the same changes each time


def flipped(files: Files, other: Files) -> Files:
    suffix = CHOSEN.choice(sorted(files))
    content = bytearray(files[suffix])
    place = CHOSEN.randrange(len(content) * 8)
    content[place // 8] ^= 1 << place % 8
    return {**files, suffix: bytes(content)}


def truncated(files: Files, other: Files) -> Files:
    suffix = CHOSEN.choice(sorted(files))
    return {**files, suffix: files[suffix][: CHOSEN.randrange(len(files[suffix]))]}


def without_one(files: Files, other: Files) -> Files:
    return _again(files, lambda members: members.pop(CHOSEN.randrange(len(members))))


def with_one_more(files: Files, other: Files) -> Files:
    more = (tarfile.TarInfo(f"root/etc/more{CHOSEN.random()}"), b"")
    return _again(files, lambda members: members.insert(CHOSEN.randrange(len(members)), more))


def with_anothers_manifest(files: Files, other: Files) -> Files:
    stranger = _members(other[".tar.gz"])[-1]
    return _again(files, lambda members: members.__setitem__(-1, stranger))


def with_anothers_summary(files: Files, other: Files) -> Files:
    return {**files, ".json": other[".json"]}


def exchanged(files: Files, other: Files) -> Files:
    return other


def with_one_file_missing(files: Files, other: Files) -> Files:
    gone = CHOSEN.choice(sorted(files))
    return {suffix: content for suffix, content in files.items() if suffix != gone}


def with_a_new_time(files: Files, other: Files) -> Files:
    """Return an old backup with a new time in its summary but not in its manifest."""
    summary = json.loads(files[".json"])
    return {**files, ".json": encode_summary({**summary, "created": "2026-11-23T00:00:00Z"})}


def _members(content: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archived:
        return [(one, archived.extractfile(one).read() if one.isreg() else b"") for one in archived]  # type: ignore[union-attr] # regular


def _again(files: Files, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]) -> Files:
    """Write a changed archive with a matching summary, so that only its content can reveal the change."""
    members = _members(files[".tar.gz"])
    change(members)
    out = io.BytesIO()
    with gzip.GzipFile("", "wb", 1, out, 0) as zipped, tarfile.open(fileobj=zipped, mode="w|") as written:
        for info, data in members:
            info.size = len(data)
            written.addfile(info, io.BytesIO(data))
    content = out.getvalue()
    summary = {**json.loads(files[".json"]), "sha256": digest(content), "size": len(content)}
    return {".tar.gz": content, ".json": encode_summary(summary)}


CHANGES: list[Callable[[Files, Files], Files]] = [
    *([flipped] * 4 + [truncated] * 2),
    *(without_one, with_one_more, with_anothers_manifest, with_anothers_summary, exchanged),
    *(with_one_file_missing, with_a_new_time),
]


def test_five_hundred_changed_backups_are_refused(head: Path, store: Path, tmp_path: Path) -> None:
    backup = "spark-1-20261120T100000Z"
    one = stored(store, made(head, backup))
    (head / "etc/hostname").write_text("spark-7\n")
    two = stored(store, made(head, "spark-1-20261121T100000Z"))
    folder = store / "spark-1"
    files, other = ({s: (folder / f"{of}{s}").read_bytes() for s in (".tar.gz", ".json")} for of in (one, two))
    assert proof(store, one).proven
    assert proof(store, two).proven
    three = stored(store, made(head, "spark-2-20261120T100000Z"))
    of_another_node = {s: (store / "spark-2" / f"{three}{s}").read_bytes() for s in (".tar.gz", ".json")}

    def anothers(files: Files, other: Files) -> Files:
        return of_another_node

    for number in range(500):
        change = [*CHANGES, anothers][number % (len(CHANGES) + 1)]
        place = tmp_path / f"changed{number}/spark-1"
        place.mkdir(parents=True)
        for suffix, content in change(files, other).items():
            (place / f"{one}{suffix}").write_bytes(content)
        found = proof(place.parent, one)
        assert not found.proven, f"{change.__name__} {number}"
        assert found.reasons, number


# The store ------------------------------------------------------------------------------------------------------------


def kept(store: Path) -> list[str]:
    return sorted(path.name[8:16] for path in (store / "spark-1").glob("*.tar.gz"))


def test_old_backups_are_removed_but_not_the_last_proven_one(head: Path, store: Path) -> None:
    days = ["20260101", "20260102", "20260103", "20260104", "20260105"]
    names = [stored(store, made(head, f"spark-1-{day}T000000Z")) for day in days]
    write_proofs(str(store), "spark-1", names[1], [proof(store, names[1])])
    now = made_seconds(names[-1])
    assert prune(str(store), "spark-1", 2, None, now, "controller")
    assert kept(store) == ["20260102", "20260104", "20260105"]
    prune(str(store), "spark-1", None, 1, now + 10 * 86400, "controller")
    assert kept(store) == ["20260102", "20260105"]  # the proven one, and the newest
    write_proofs(str(store), "spark-1", names[4], [proof(store, names[4])])
    prune(str(store), "spark-1", None, 1, now + 10 * 86400, "controller")
    assert kept(store) == ["20260105"]


def test_a_proof_that_cannot_run_keeps_the_earlier_one(head: Path, store: Path) -> None:
    backup = stored(store, made(head))
    sound = proof(store, backup)
    for code in sorted(UNTRIED):
        untried = refused(sound, (code, "no room"))
        write_proofs(str(store), "spark-1", backup, [replace(untried, where="spark-2")])
        write_proofs(str(store), "spark-1", backup, [sound])
        write_proofs(str(store), "spark-1", backup, [untried])
        assert is_proven(str(store), "spark-1", backup, "controller"), code
        assert not is_proven(str(store), "spark-1", backup, "spark-2"), code
    damaged = refused(sound, ("KEEPER_FULL", "no room"), ("BACKUP_DAMAGED", "changed"))
    write_proofs(str(store), "spark-1", backup, [damaged])
    assert not is_proven(str(store), "spark-1", backup, "controller")


def test_a_proof_of_one_copy_keeps_no_other_copy(head: Path, store: Path) -> None:
    days = ["20260101", "20260102", "20260103"]
    here, there, _ = (stored(store, made(head, f"spark-1-{day}T000000Z")) for day in days)
    write_proofs(str(store), "spark-1", here, [proof(store, here)])
    write_proofs(str(store), "spark-1", there, [replace(proof(store, there), where="spark-2")])
    prune(str(store), "spark-1", 1, None, time.time(), "controller")
    assert kept(store) == ["20260101", "20260103"]


def test_backups_of_another_machine_do_not_count(head: Path, store: Path) -> None:
    other = {**MACHINE, "macs": {"enP7s7": "02:00:00:00:00:02"}}
    stored(store, made(head, "spark-1-20260101T000000Z"))
    for day in ("20260102", "20260103"):
        stored(store, made(head, f"spark-1-{day}T000000Z", machine=other))
    prune(str(store), "spark-1", 1, None, time.time(), "controller")
    assert kept(store) == ["20260101", "20260103"]


def test_only_leftovers_of_dead_runs_are_removed(head: Path, store: Path) -> None:
    backup = stored(store, made(head))
    folder = store / "spark-1"
    for name in ("spark-1-20260101T000000Z.tar.gz.part", "spark-1-20260101T000000Z.tar.gz"):
        (folder / name).write_bytes(b"half")
    prune(str(store), "spark-1", 10, None, time.time(), "controller")
    assert len(list(folder.iterdir())) == 4  # they may still be in transfer
    prune(str(store), "spark-1", 10, None, time.time() + 7200, "controller")
    assert sorted(path.name for path in folder.iterdir()) == [f"{backup}.json", f"{backup}.tar.gz"]


def test_a_partly_received_archive_gets_no_name(head: Path, store: Path) -> None:
    content = made(head)
    summary = summary_of(check(io.BytesIO(content)), digest(content), len(content), False)
    with pytest.raises(RefusedError):
        receive(str(store), summary, [content[:-1]])
    assert not list((store / "spark-1").iterdir())


def test_only_the_owner_can_read_a_store(head: Path, store: Path) -> None:
    backup = stored(store, made(head))
    write_proofs(str(store), "spark-1", backup, [proof(store, backup)])
    assert {path.stat().st_mode & 0o777 for path in store.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in [store, *store.rglob("*")] if path.is_dir()} == {0o700}


def test_the_controller_recognizes_its_proofs(head: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_BACKUPS", str(store))
    assert evidence_for("spark-1") == []
    backup = stored(store, made(head))
    assert evidence_for("spark-1") == []
    write_proofs(str(store), "spark-1", backup, [replace(proof(store, backup), where="spark-2")])
    assert evidence_for("spark-1") == []  # the controller has not proven its own
    found = [proof(store, backup), replace(proof(store, backup), where="spark-2")]
    write_proofs(str(store), "spark-1", backup, found)
    assert sorted((one.where, one.id, one.proven) for one in evidence_for("spark-1")) == [
        ("controller", backup, True),
        ("spark-2", backup, True),
    ]
    (copy,) = local_backups("spark-1")
    assert copy.proven
    damaged = refused(found[0], ("BACKUP_DAMAGED", "its content has changed"))
    write_proofs(str(store), "spark-1", backup, [damaged, found[1]])
    (damaged_copy,) = local_backups("spark-1")
    assert not damaged_copy.proven  # a proof at another place does not count for this copy
    assert copy.from_json(copy.to_json()).id == copy.id
