"""Archives, databases and answers that were made to exhaust memory, disk or time are refused."""

from __future__ import annotations

import base64
import gzip
import json
import os
import sqlite3
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gb10.operations.docker import parse_config
from gb10.programs.answer import RefusedError
from gb10.programs.archive import reading
from gb10.programs.archive.reading import check
from gb10.programs.archive.writing import HEADER
from gb10.programs.backups.listing import listing
from gb10.programs.backups.store import read_proofs
from gb10.programs.helm_storage import RELEASE_BYTES, releases
from tests.unit.bombs import bounded
from tests.unit.programs.test_backup_proof import SERVER, head, made, proof, stored

__all__ = ["head"]  # the fixture

CHECK = """
from gb10.programs.answer import RefusedError
from gb10.programs.archive.reading import check
try:
    check(open(sys.argv[1], "rb"))
except RefusedError as error:
    print(error.code, error.reason)
"""
MIB = 1 << 20


def packed(path: Path, blocks: Iterator[bytes]) -> str:
    """Write blocks of a tar as an archive that begins as a backup does; return its path."""
    deflate, crc, size = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS), 0, 0
    with path.open("wb") as file:
        file.write(HEADER)
        for block in blocks:
            file.write(deflate.compress(block))
            crc, size = zlib.crc32(block, crc), size + len(block)
        file.write(deflate.flush() + struct.pack("<II", crc, size))
    return str(path)


def header(kind: bytes, size: int, name: str = "root/x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(**fields: str) -> bytes:
    """Return an extended header."""
    info = tarfile.TarInfo("root/x")
    info.pax_headers = {name.replace("_", "."): value for name, value in fields.items()}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_huge_extended_header_is_not_read(kind: bytes, tmp_path: Path) -> None:
    size = 600 * MIB
    path = packed(tmp_path / "bomb", iter([header(kind, size), *[bytes(MIB)] * 600]))
    assert os.path.getsize(path) < 4 * MIB
    assert bounded(CHECK, path).startswith("BACKUP_DAMAGED ")


def test_the_map_of_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    number = 30_000_000
    extended = pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="root/x", GNU_sparse_realsize="1")
    extended = extended[:-512] + header(tarfile.REGTYPE, 2 * number)
    path = packed(tmp_path / "bomb", iter([extended, b"%d\n" % number, *[b"0\n" * MIB] * 60]))
    assert bounded(CHECK, path) == "BACKUP_DAMAGED it has a sparse file\n"


def test_a_chain_of_extended_headers_is_refused(tmp_path: Path) -> None:
    one = pax(comment="x")[:-512]
    path = packed(tmp_path / "bomb", iter([one * 5000, header(tarfile.REGTYPE, 0)]))
    assert bounded(CHECK, path).startswith("BACKUP_DAMAGED it cannot be read to its end")


@pytest.mark.parametrize("value", [b"[],", b"[", b'{"a":0},'])
def test_a_manifest_of_countless_values_is_refused(value: bytes, tmp_path: Path) -> None:
    size = 40 * MIB
    content = (b'{"notes":[' + value * size)[:size]
    path = packed(tmp_path / "bomb", iter([header(tarfile.REGTYPE, size, "MANIFEST.json"), content, bytes(1024)]))
    assert bounded(CHECK, path).startswith("BACKUP_DAMAGED its manifest")


def test_a_deep_manifest_is_refused(tmp_path: Path) -> None:
    content = b'{"format":1,"members":' + b"[" * 500_000
    path = packed(
        tmp_path / "bomb", iter([header(tarfile.REGTYPE, len(content), "MANIFEST.json"), content, bytes(2048)])
    )
    assert bounded(CHECK, path).startswith("BACKUP_DAMAGED")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MEMBERS", 1000)
    path = packed(tmp_path / "bomb", (header(tarfile.DIRTYPE, 0, f"root/{number}") for number in range(2000)))
    with open(path, "rb") as file, pytest.raises(RefusedError, match="more than 1000 members"):
        check(file)


def test_a_path_longer_than_any_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb", iter([pax(path="root/" + "a/" * 3000)]))
    assert "longer than any path" in bounded(CHECK, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_what_expands_leaves_room_on_the_disk(tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb", iter([header(tarfile.REGTYPE, 128 * MIB), *[bytes(MIB)] * 128]))
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        unpack = CHECK.replace("check(open(sys.argv[1], 'rb'))", "").replace("import check", "import unpack")
        unpack = unpack.replace('check(open(sys.argv[1], "rb"))', 'unpack(open(sys.argv[1], "rb"), sys.argv[2])')
        assert "No space left on device" in bounded(unpack, path, str(disk / "scratch"))
        left = os.statvfs(disk)
        assert left.f_bavail * left.f_frsize > 2 * MIB
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Databases ------------------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
BOMBS = {
    "a recursive view": f"CREATE VIEW kine AS {ENDLESS} x AS id, 'a' AS name, 0 AS deleted FROM n",
    "a computed column": "CREATE TABLE kine (id INTEGER PRIMARY KEY, deleted INTEGER,"
    " name TEXT AS (hex(zeroblob(400000000)))); INSERT INTO kine (deleted) VALUES (0)",
    "an index of huge values": "CREATE TABLE kine (id INTEGER PRIMARY KEY, deleted INTEGER, name TEXT);"
    " INSERT INTO kine (deleted, name) VALUES (0, 'x'); CREATE INDEX i ON kine (length(zeroblob(900000000 + id)))",
    "a virtual table": "CREATE VIRTUAL TABLE kine USING fts4(name)",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_database_that_is_a_bomb_is_refused(bomb: str, head: Path, tmp_path: Path) -> None:
    (head / SERVER / "db/state.db").unlink()
    # In a process of its own: a proof in this one has limited SQLite's memory for good.
    make = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).executescript(sys.argv[2])"
    subprocess.run([sys.executable, "-c", make, str(head / SERVER / "db/state.db"), BOMBS[bomb]], check=True)
    store = tmp_path / "store"
    backup = stored(store, made(head))
    code = """
import json
from gb10.programs.backups.proof import prove
job = {"node": "spark-1", "id": sys.argv[2], "where": "controller", "expected": {"node": "spark-1"}}
print(json.dumps(prove(sys.argv[1], job).to_json()["codes"]))
"""
    found = bounded(code, str(store), backup)
    assert json.loads(found)[0] == "BACKUP_DATABASE", found


def test_a_slow_database_is_given_up(head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gb10.programs.backups.proof.DATABASE_SECONDS", 0)
    with closing(sqlite3.connect(head / SERVER / "db/state.db")) as database, database:
        rows = [(f"/registry/events/{number}",) for number in range(200_000)]
        database.executemany("INSERT INTO kine (name, deleted) VALUES (?, 0)", rows)
    found = proof(tmp_path / "store", stored(tmp_path / "store", made(head)))
    assert (found.codes[0], "interrupted" in found.texts[0]) == ("BACKUP_DATABASE", True)


def test_the_proof_does_not_write_into_the_database(head: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(head / SERVER / "db/state.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    assert proof(tmp_path / "store", stored(tmp_path / "store", made(head))).proven


# Answers --------------------------------------------------------------------------------------------------------------

READ = """
from gb10.facts.reading.requests import Answer, FloodError, FrameError
try:
    Answer("m", int(sys.argv[2])).read_line(open(sys.argv[1]).read())
except (FloodError, FrameError) as error:
    print(type(error).__name__)
"""


def test_a_short_answer_does_not_inflate_to_a_gigabyte(tmp_path: Path) -> None:
    deflate = zlib.compressobj(6)
    text = b"".join([deflate.compress(b"["), *(deflate.compress(b"[]," * MIB) for _ in range(170)), deflate.flush()])
    (tmp_path / "line").write_text(f"m answer/deflated {base64.b64encode(text).decode()}")
    assert os.path.getsize(tmp_path / "line") < 4 * MIB
    assert bounded(READ, str(tmp_path / "line"), str(1 << 30)) == "FloodError\n"


@pytest.mark.parametrize("value", ["[],", "{},", '{"":0},', "[0,"])
def test_an_answer_of_countless_values_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "line").write_text("m answer [" + value * (40 * MIB // len(value)) + "0]")
    assert bounded(READ, str(tmp_path / "line"), str(64 * MIB)) == "FloodError\n"


def test_a_deep_answer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "line").write_text("m answer " + "[" * 300_000)
    assert bounded(READ, str(tmp_path / "line"), str(64 * MIB)) == "FrameError\n"


def test_deep_json_of_others_is_no_json(tmp_path: Path) -> None:
    deep = "[" * 200_000
    (tmp_path / "spark-1").mkdir()
    name = "spark-1-20260101T000000Z"
    for suffix in (".tar.gz", ".json", ".proof.json"):
        (tmp_path / "spark-1" / f"{name}{suffix}").write_text(deep)
    assert read_proofs(str(tmp_path), "spark-1", name) == []
    rows = listing(str(tmp_path)) or []
    assert [(row["summary"], row["proofs"]) for row in rows] == [({}, [])]
    assert parse_config(deep) is None


def test_a_release_of_helm_does_not_inflate_without_bound() -> None:
    blob = gzip.compress(bytes(RELEASE_BYTES + 1))
    data = base64.b64encode(base64.b64encode(blob)).decode()
    found = releases((0, json.dumps({"items": [{"data": {"release": data}}]})), ())
    assert isinstance(found, dict)
    assert "is larger than 64 MiB" in found["error"]
