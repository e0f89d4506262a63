"""A backup's description of its node, and copies of a database during writes."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gb10.programs.archive.reading import check
from gb10.programs.archive.writing import Writer
from gb10.programs.backups import making as backup_maker
from gb10.programs.backups.node_lists import models, own_containers


def test_models_are_listed_with_the_digests_in_their_blob_names(tmp_path: Path) -> None:
    model = tmp_path / "hub/models--org--name"
    for folder in ("refs", "blobs", "snapshots/c0ffee"):
        (model / folder).mkdir(parents=True)
    (model / "refs/main").write_text("c0ffee")
    (model / "blobs/abc").write_bytes(b"weights")
    (model / "snapshots/c0ffee/model.safetensors").symlink_to("../../blobs/abc")
    (model / "snapshots/c0ffee/gone.json").symlink_to("../../blobs/def")
    assert models(str(tmp_path / "hub")) == [
        {
            "name": "models--org--name",
            "refs": {"main": "c0ffee"},
            "revisions": {
                "c0ffee": {
                    "gone.json": {"blob": "def", "size": None},
                    "model.safetensors": {"blob": "abc", "size": 7},
                }
            },
        }
    ]
    assert models(str(tmp_path / "none")) == []


def test_lines_of_accounts_are_found_by_the_whole_name(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("nvidia:x:1000:1000::/home/nvidia:/bin/bash\nnvidia-x:x:900:900::/:/bin/false\n")
    lines = backup_maker.named_lines(str(tmp_path / "passwd"), {"nvidia"})
    assert lines == ["nvidia:x:1000:1000::/home/nvidia:/bin/bash"]
    assert backup_maker.named_lines(str(tmp_path / "absent"), {"nvidia"}) == []


@pytest.mark.parametrize("path", ["/", "/proc/version", "/run", "/sys/kernel"])
def test_a_named_path_that_is_never_backed_up_is_noted_as_harm(tmp_path: Path, path: str) -> None:
    writer = Writer(io.BytesIO(), str(tmp_path))
    backup_maker.add_extra(writer, path)
    assert ([note.harms for note in writer.notes], writer.members) == ([True], {})


def test_a_named_link_is_backed_up_with_its_target_or_noted(tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / f"link-{name}").symlink_to(tmp_path / name)
    (tmp_path / "file").touch()
    (tmp_path / "link-file").symlink_to(tmp_path / "file")
    named = [str(tmp_path / name) for name in ("in", "link-in", "link-out", "link-file", "absent")]
    writer = Writer(io.BytesIO(), str(tmp_path))
    for path in named[:-1]:
        writer.add_tree(path, "extra")
    backup_maker.note_links(writer, named)
    assert [(Path(note.path).name, note.harms) for note in writer.notes] == [("link-out", True), ("link-file", False)]
    assert str(tmp_path / "out") in writer.notes[0].text


def test_tokens_beside_the_model_cache_are_in_the_backup(tmp_path: Path) -> None:
    for name in ("token", "stored_tokens"):
        (tmp_path / name).write_text("hf_secret")
    (tmp_path / "hub").mkdir()
    writer = Writer(io.BytesIO(), str(tmp_path))
    backup_maker.add_homes(writer, str(tmp_path / "hub"))
    assert {f"root{tmp_path}/{name}" for name in ("token", "stored_tokens")} <= writer.members.keys()
    assert {member.part for path, member in writer.members.items() if path.startswith(f"root{tmp_path}/")} == {"users"}


DOCKER = """#!/bin/sh
# An engine with one container. The first inspections fail, because another container has just vanished.
case "$2" in
ls) echo c0ffee ;;
inspect) echo >> {tries}; test "$(wc -l < {tries})" -gt {failures} && echo '[{{"Config": {{"Labels": null}}}}]' ;;
esac
"""


@pytest.mark.parametrize(("failures", "found", "noted"), [(1, 1, 0), (9, None, 1)])
def test_a_vanishing_container_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, found: int | None, noted: int
) -> None:
    engine = tmp_path / "docker"
    engine.write_text(DOCKER.format(tries=tmp_path / "tries", failures=failures))
    engine.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    writer = Writer(io.BytesIO(), str(tmp_path))
    containers = own_containers(writer)
    assert (None if containers is None else len(containers), len(writer.notes)) == (found, noted)


def test_k3s_is_stopped_only_if_nobody_can_open_its_database() -> None:
    states = ("active", "activating", "deactivating", "reloading", "inactive\n", "failed\n", None)
    assert [backup_maker.is_running(state) for state in states] == [True, True, True, True, False, False, True]


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Write constantly to a database in WAL mode, two rows in each transaction, while the block runs."""
    stop, ready = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE kine (name TEXT)")
            database.commit()
            ready.set()
            while not stop.is_set():
                with database:
                    database.execute("INSERT INTO kine VALUES ('one')")
                    database.execute("INSERT INTO kine VALUES ('other')")

    thread = threading.Thread(target=write)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_database_in_use_is_copied_between_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node/db/state.db"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(backup_maker, "DATABASE", str(path))
    with written(path):
        for number in range(5):
            copy = tmp_path / f"copy{number}"
            assert backup_maker.copied(str(copy), str(tmp_path), running=True) is None
            with closing(sqlite3.connect(copy)) as database:
                ((count,),) = database.execute("SELECT count(*) FROM kine").fetchall()
            assert count % 2 == 0
            assert {path.name for path in tmp_path.iterdir()} == {"node", *(f"copy{n}" for n in range(number + 1))}


WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=20)
while True:
    with database:
        database.execute("INSERT INTO kine VALUES ('row')")
    print(flush=True)
    time.sleep(0.002)
"""


def test_a_large_database_is_copied_during_constant_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    monkeypatch.setattr(backup_maker, "DATABASE", str(path))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE kine (name BLOB)")
        database.execute("INSERT INTO kine VALUES (zeroblob(?))", (64 << 20,))
    arguments = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        copying = threading.Thread(
            target=backup_maker.copied, args=(str(tmp_path / "copy"), str(tmp_path), True), daemon=True
        )
        copying.start()
        copying.join(30)
        process.kill()
        assert not copying.is_alive()
        process.stdout.close()


def test_a_file_that_is_not_a_database_is_backed_up_as_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "db/state.db"
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 100)
    monkeypatch.setattr(backup_maker, "DATABASE", str(path))
    out = io.BytesIO()
    writer = Writer(out, str(tmp_path))
    assert backup_maker.add_database(writer, str(tmp_path)) == {"kind": "sqlite", "consistent": False}
    manifest: Any = writer.close(id="x", node="x", created="x", about={})
    assert check(io.BytesIO(out.getvalue())) == manifest
    (note,) = manifest.notes
    assert (note.harms, "file is not a database" in note.text) == (True, True)
    (member,) = (member for member in manifest.members if member.type == "f")
    assert (member.node_path, member.size) == (str(path), path.stat().st_size)
