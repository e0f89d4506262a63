"""The proof that a backup can be restored: unpacked as a restore would, compared file by file, its database opened.

The contract: one reason against a backup is enough, and whatever cannot be read is a reason.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import FULL
from gb10.programs.archive.manifest import ROOT, Manifest, agree, damaged, shown
from gb10.programs.archive.reading import compare, unpack
from gb10.programs.backups.node_paths import AGENT_CONFIG, AUTHORITY, DATABASE, NODE_PASSWORD, TOKEN
from gb10.programs.backups.store import AHEAD_SECONDS, ProofResult, archive_name, read_summary
from gb10.programs.files import sha256_of

MOST_DIFFERENCES = 5
NEEDED = {"server": (DATABASE, TOKEN, AUTHORITY), "agent": (AGENT_CONFIG, NODE_PASSWORD)}  # by role
PROVING = ".proving"  # folder of the store in which backups are unpacked
# Ceilings for a database: whoever made it may want to keep the proof busy for ever.
DATABASE_SECONDS = 600
DATABASE_BYTES = 256 << 20  # of memory
STEPS = 100_000  # of SQLite's machine, between two looks at the clock
KEYS = 200_000

Reason = tuple[str, str]  # code of the catalogue and text


def prove(root: str, job: Mapping[str, Any], plain: str | None = None) -> ProofResult:
    """Prove one copy of a backup; return the result.

    + root: the store
    + plain: path of the archive of an encrypted backup, decrypted

    The job has node, id, where (the name of this store), and

    + expected: node; where they are known macs, architecture, machine_id, and most_age_seconds
    + trusted: the sha256 of an encrypted backup that was opened and proven elsewhere: here it is read, not opened
    """
    node, backup = job["node"], job["id"]
    found = ProofResult(job["where"], node, backup, time.time())
    reasons: list[Reason] = []
    with _scratch_folder(root) as scratch:
        try:
            summary = read_summary(root, node, backup)
            found = replace(found, created=summary["created"], encrypted=summary["encrypted"])
            path = os.path.join(root, node, archive_name(summary))
            found = replace(found, sha256=_same_file(path, summary))
            reasons += _foreign_or_old(summary, backup, job["expected"])
            if summary["encrypted"] and plain is None:
                _check_trusted(found.sha256, job.get("trusted"))
            else:
                nodes, more = _open(plain or path, scratch, summary)
                found = replace(found, opened=True, nodes=nodes)
                reasons += more
        except RefusedError as error:
            reasons.append((error.code, error.reason))
        except OSError as error:
            code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_DAMAGED"
            reasons.append((code, f"it cannot be read: {error.strerror or error}"))
    return replace(found, at=time.time(), reasons=tuple((code, shown(text)) for code, text in reasons))


def _open(path: str, scratch: str, summary: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, list[Reason]]:
    """Unpack an archive and examine it; return the nodes in its database, and the reasons against it."""
    with open(path, "rb") as file:
        manifest = unpack(file, scratch)
    agree(manifest, summary)
    reasons = [("BACKUP_DAMAGED", line) for line in compare(scratch, manifest)[:MOST_DIFFERENCES]]
    reasons += _incomplete(manifest)
    nodes = None
    if manifest.about.get("role") == "server":
        nodes, more = _examine_database(scratch, manifest)
        reasons += more
    return nodes, reasons


@contextlib.contextmanager
def _scratch_folder(root: str) -> Iterator[str]:
    """Make an empty folder, closed to others, that is removed after the block, with those of dead processes."""
    place = os.path.join(root, PROVING)
    os.makedirs(place, 0o700, exist_ok=True)
    for name in os.listdir(place):
        _remove_if_left(os.path.join(place, name))
    folder = tempfile.mkdtemp(dir=place)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_if_left(folder: str) -> None:
    """Remove a folder that no process holds locked any more."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def _same_file(path: str, summary: Mapping[str, Any]) -> str:
    """Read the whole file; return its sha256. Raise RefusedError if its summary describes another one."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise damaged(f"{os.path.basename(path)} is missing") from None
    if size != summary["size"]:
        raise damaged(f"it has {size} bytes, and had {summary['size']}")
    sha256 = sha256_of(path)
    if sha256 != summary["sha256"]:
        raise damaged("its content has changed: it has another sha256")
    return sha256


def _foreign_or_old(summary: Mapping[str, Any], backup: str, expected: Mapping[str, Any]) -> Iterator[Reason]:
    """Yield the reasons why this is not a recent enough backup of the wanted node."""
    if summary["id"] != backup:
        yield "BACKUP_FOREIGN", f"it is {summary['id']}"
    if summary["node"] != expected["node"]:
        yield "BACKUP_FOREIGN", f"it is of the node {summary['node']}, not of {expected['node']}"
    machine = summary.get("machine") or {}
    wanted, macs = set(expected.get("macs") or ()), set((machine.get("macs") or {}).values())
    if wanted and not wanted & macs:
        yield "BACKUP_FOREIGN", f"it is of another machine, with the MACs {', '.join(sorted(macs)) or 'of none'}"
    architecture = expected.get("architecture")
    if architecture and machine.get("architecture") != architecture:
        yield "BACKUP_FOREIGN", f"it is of a machine with {machine.get('architecture')}, not {architecture}"
    if expected.get("machine_id") and machine.get("machine_id") != expected["machine_id"]:
        yield "BACKUP_STALE", "it is of an installation that the node no longer has"
    try:
        made = calendar.timegm(time.strptime(summary["created"], "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        yield "BACKUP_DAMAGED", "its summary names no time"
        return
    age, most = time.time() - made, expected.get("most_age_seconds")
    if age < -AHEAD_SECONDS:
        yield "BACKUP_STALE", "its time is in the future"
    if most is not None and age > most:
        yield "BACKUP_STALE", f"it was made {age / 3600:.0f} hours ago"


def _check_trusted(sha256: str | None, trusted: str | None) -> None:
    """Raise RefusedError if an encrypted backup is not the one that was proven elsewhere."""
    if trusted is None:
        raise RefusedError("BACKUP_KEY", "it is encrypted, and no copy of it was opened and proven")
    if sha256 != trusted:
        raise damaged("it is not the file that was opened and proven on the controller")


def _incomplete(manifest: Manifest) -> Iterator[Reason]:
    """Yield the reasons why the node could not be restored from this backup."""
    for note in manifest.notes:
        if note.harms:
            yield "BACKUP_INCOMPLETE", f"{note.path} {note.text}"
    there = {member.node_path for member in manifest.members}
    for path in ("/etc/hostname", *NEEDED.get(str(manifest.about.get("role")), ())):
        if path not in there:
            yield "BACKUP_INCOMPLETE", f"{path} is not in it"
    if not any(path and path.startswith("/etc/ssh/ssh_host_") for path in there):
        yield "BACKUP_INCOMPLETE", "it has no SSH host key"


# The database of K3s --------------------------------------------------------------------------------------------------


def _examine_database(scratch: str, manifest: Manifest) -> tuple[tuple[str, ...] | None, list[Reason]]:
    """Open the database; return the names of its nodes, and the reasons against it."""
    root = os.path.join(scratch, ROOT)
    if not os.path.isfile(root + DATABASE):
        return None, []  # _incomplete says so
    try:
        with contextlib.closing(_opened(root + DATABASE, DATABASE_SECONDS)) as database:
            if reason := _wrong_table(database):
                return None, [("BACKUP_DATABASE", reason)]
            (answer, *_), *_ = database.execute("PRAGMA integrity_check(1)").fetchall()
            if answer != "ok":
                return None, [("BACKUP_DATABASE", f"the database is damaged: {answer}")]
            keys = _live_keys(database)
            rows = database.execute("SELECT name FROM kine WHERE name LIKE '/bootstrap/%' LIMIT ?", (KEYS,))
            seals = [str(name) for (name,) in rows]
    except (sqlite3.Error, MemoryError) as error:
        text = str(error) or "it needs too much memory"
        return None, [("BACKUP_DATABASE", f"the database cannot be read: {text}")]
    nodes = tuple(sorted(key.rpartition("/")[2] for key in keys if key.startswith("/registry/minions/")))
    return nodes, [*_lacking(keys, nodes, manifest), *_mismatched(root, seals)]


def _opened(path: str, seconds: float) -> sqlite3.Connection:
    """Open a database of anybody: it is only read, runs no code of its own, and is interrupted after some seconds."""
    database = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True)
    end = time.monotonic() + seconds
    database.set_progress_handler(lambda: time.monotonic() > end, STEPS)
    database.executescript(
        f"PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA hard_heap_limit={DATABASE_BYTES}"
    )
    return database


def _wrong_table(database: sqlite3.Connection) -> str | None:
    """Return why `kine` is not a plain table, as K3s makes it, or None: a view or a computed column may do anything."""
    kinds = database.execute("SELECT type, rootpage FROM sqlite_master WHERE name = 'kine'").fetchall()
    if len(kinds) != 1 or kinds[0][0] != "table" or not kinds[0][1]:
        return "the database cannot be read: kine is not a table in it"
    if any(hidden for *_, hidden in database.execute("PRAGMA table_xinfo(kine)")):
        return "the database cannot be read: kine has computed columns"
    return None


def _live_keys(database: sqlite3.Connection) -> set[str]:
    """Return the keys of nodes and Secrets that exist: kine keeps every revision, the last one may be a deletion."""
    rows = database.execute(
        "SELECT name FROM kine WHERE id IN (SELECT max(id) FROM kine GROUP BY name) AND deleted = 0"
        " AND (name LIKE '/registry/minions/%' OR name LIKE '/registry/secrets/%') LIMIT ?",
        (KEYS,),
    )
    return {str(name) for (name,) in rows}


def _lacking(keys: set[str], nodes: Sequence[str], manifest: Manifest) -> Iterator[Reason]:
    """Yield the nodes and releases that the cluster had and the database lacks, as reasons."""
    cluster = manifest.about.get("cluster") or {}
    for node in cluster.get("nodes", [manifest.node] if not cluster else []):
        if node not in nodes:
            yield "BACKUP_DATABASE", f"the database does not hold the node {node}"
    for release in cluster.get("releases", []):
        if f"/registry/secrets/{release}" not in keys:
            yield "BACKUP_DATABASE", f"the database does not hold the Helm release {release}"


def _mismatched(root: str, seals: Sequence[str]) -> Iterator[Reason]:
    """Yield the reasons why token, certificates and database do not belong to one cluster.

    The database names the token that seals it by the start of its sha256 (k3s-io/k3s, pkg/cluster/encrypt.go), and the
    token names the cluster's CA.
    """
    with contextlib.suppress(FileNotFoundError):
        with open(root + TOKEN, encoding="utf-8", errors="replace") as file:
            token = file.read().strip()
        with open(root + AUTHORITY, "rb") as file:
            authority = hashlib.sha256(file.read()).hexdigest()
        prefix, separator, credentials = token.partition("::")
        if not separator:
            prefix, credentials = "", token
        password = credentials.partition(":")[2] or credentials
        seal = f"/bootstrap/{hashlib.sha256(password.encode()).hexdigest()[:12]}"
        if seal not in seals:
            yield "BACKUP_DATABASE", "the database was sealed with another token than the one beside it"
        if prefix and prefix != f"K10{authority}":
            yield "BACKUP_DATABASE", "the token is of another cluster than the certificates beside it"
