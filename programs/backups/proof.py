"""The proof that a backup can be restored: unpacked as a restore would, compared file by file, its database opened.

This file also runs on the nodes, as text for their own python3: standard library only.

The contract: `proven` is never true where one reason speaks against it, and nothing is ever assumed: what could not be
read speaks against it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import Any

from gb10.programs import archive
from gb10.programs.archive import ArchiveError, Manifest

SERVER = "/var/lib/rancher/k3s/server"
DATABASE = f"{SERVER}/db/state.db"
TOKEN = f"{SERVER}/token"
AUTHORITY = f"{SERVER}/tls/server-ca.crt"
AGENT_CONFIG = "/etc/rancher/k3s/config.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105 - where it lies
FULL = (28, 122)  # ENOSPC, EDQUOT

Reason = tuple[str, str]  # a code of the catalogue, and what is wrong


def prove_copy(
    folder: str, backup: str, expected: Mapping[str, Any], scratch: str, plain: str | None, trusted: str | None
) -> dict[str, Any]:
    """Prove one copy of a backup; return whether it is proven, the reasons against it, and what was found.

    + folder: where it lies
    + expected: what it must be: node; and where they are known macs, architecture, machine_id, and
      most_age_seconds
    + scratch: an empty folder to unpack in
    + plain: of an encrypted one, its archive, decrypted
    + trusted: the sha256 of an encrypted one that was opened and proven elsewhere: here it is read, not opened
    """
    found: dict[str, Any] = {"sha256": None, "created": None, "opened": False, "encrypted": None, "nodes": None}
    reasons: list[Reason] = []
    try:
        summary = _summary(folder, backup)
        found |= {"created": summary["created"], "encrypted": summary["encrypted"]}
        found["sha256"] = _same_file(folder, summary)
        reasons += _about(summary, backup, expected)
        if summary["encrypted"] and plain is None:
            _trust(found["sha256"], trusted)
        else:
            manifest = _unpacked(plain or os.path.join(folder, _name(summary)), scratch, summary)
            found["opened"] = True
            reasons += [("BACKUP_DAMAGED", line) for line in archive.compare(scratch, manifest)[:5]]
            reasons += _incomplete(manifest)
            if manifest.about.get("role") == "server":
                found["nodes"], more = _datastore(scratch, manifest)
                reasons += more
    except ArchiveError as error:
        reasons.append((error.code, error.reason))
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_DAMAGED"
        reasons.append((code, f"it cannot be read: {error.strerror or error}"))
    return {
        **found,
        "proven": not reasons,
        "codes": [code for code, _ in reasons],
        "reasons": [archive.shown(reason) for _, reason in reasons],
    }


def _summary(folder: str, backup: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, backup + ".json"), "rb") as file:
            return archive.decode_summary(file.read())
    except FileNotFoundError:
        raise ArchiveError("BACKUP_MISSING", "it is not there: no backup is complete without a summary") from None


def _name(summary: Mapping[str, Any]) -> str:
    return f"{summary['id']}.tar.gz{'.age' if summary['encrypted'] else ''}"


def _same_file(folder: str, summary: Mapping[str, Any]) -> str:
    """Read the whole file; return its sha256. Raise ArchiveError where it is not the one that was put there."""
    path = os.path.join(folder, _name(summary))
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise ArchiveError("BACKUP_DAMAGED", f"{_name(summary)} is missing") from None
    if size != summary["size"]:
        raise ArchiveError("BACKUP_DAMAGED", f"it has {size} bytes, and had {summary['size']}")
    sha256 = archive.file_digest(path)
    if sha256 != summary["sha256"]:
        raise ArchiveError("BACKUP_DAMAGED", "its content has changed: it has another sha256")
    return sha256


def _about(summary: Mapping[str, Any], backup: str, expected: Mapping[str, Any]) -> Iterator[Reason]:
    """Yield what speaks against its being the wanted backup of the wanted node."""
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
    yield from _too_old(summary["created"], expected.get("most_age_seconds"))


def _too_old(created: str, most: float | None) -> Iterator[Reason]:
    try:
        age = time.time() - archive.seconds(created)
    except ValueError:
        yield "BACKUP_DAMAGED", "its summary names no time"
        return
    if most is not None and age > most:
        yield "BACKUP_STALE", f"it was made {age / 3600:.0f} hours ago"


def _trust(sha256: str, trusted: str | None) -> None:
    if trusted is None:
        raise ArchiveError("BACKUP_KEY", "it is encrypted, and no copy of it was opened and proven")
    if sha256 != trusted:
        raise ArchiveError("BACKUP_DAMAGED", "it is not the file that was opened and proven on the controller")


def _unpacked(path: str, scratch: str, summary: Mapping[str, Any]) -> Manifest:
    with open(path, "rb") as file:
        manifest = archive.unpack(file, scratch)
    archive.agree(manifest, summary)
    return manifest


def _incomplete(manifest: Manifest) -> Iterator[Reason]:
    """Yield what a backup lacks without which nobody gets his node back."""
    for note in manifest.notes:
        if note.harms:
            yield "BACKUP_INCOMPLETE", f"{note.path} {note.text}"
    there = {member.node_path for member in manifest.members}
    role = manifest.about.get("role")
    wanted = ["/etc/hostname"]
    wanted += [DATABASE, TOKEN, AUTHORITY] if role == "server" else []
    wanted += [AGENT_CONFIG, NODE_PASSWORD] if role == "agent" else []
    for path in wanted:
        if path not in there:
            yield "BACKUP_INCOMPLETE", f"{path} is not in it"
    if not any(path and path.startswith("/etc/ssh/ssh_host_") for path in there):
        yield "BACKUP_INCOMPLETE", "it has no SSH host key"


# The datastore of K3s -------------------------------------------------------------------------------------------------


def _datastore(scratch: str, manifest: Manifest) -> tuple[list[str] | None, list[Reason]]:
    """Open the database; return the names of its nodes, and what speaks against it."""
    root = os.path.join(scratch, archive.ROOT)
    if not os.path.isfile(root + DATABASE):
        return None, []  # the incompleteness has been told
    try:
        # Not immutable: what lies here is ours, and SQLite may write beside it.
        with contextlib.closing(sqlite3.connect(root + DATABASE)) as database:
            (answer, *_), *_ = database.execute("PRAGMA integrity_check").fetchall()
            if answer != "ok":
                return None, [("BACKUP_DATABASE", f"the database is damaged: {answer}")]
            keys = _live_keys(database)
            seals = [name for (name,) in database.execute("SELECT name FROM kine WHERE name LIKE '/bootstrap/%'")]
    except sqlite3.Error as error:
        return None, [("BACKUP_DATABASE", f"the database cannot be read: {error}")]
    nodes = sorted(key.rpartition("/")[2] for key in keys if key.startswith("/registry/minions/"))
    return nodes, [*_missing(keys, nodes, manifest), *_strangers(root, seals)]


def _live_keys(database: sqlite3.Connection) -> set[str]:
    """The keys of what exists: kine keeps every revision, and the last one says whether it was deleted."""
    rows = database.execute(
        "SELECT name FROM kine WHERE id IN (SELECT max(id) FROM kine GROUP BY name) AND deleted = 0"
    )
    return {str(name) for (name,) in rows}


def _missing(keys: set[str], nodes: list[str], manifest: Manifest) -> Iterator[Reason]:
    """Yield what the cluster had and the database has not."""
    cluster = manifest.about.get("cluster") or {}
    for node in cluster.get("nodes", [manifest.node] if not cluster else []):
        if node not in nodes:
            yield "BACKUP_DATABASE", f"the database does not hold the node {node}"
    for release in cluster.get("releases", []):
        if f"/registry/secrets/{release}" not in keys:
            yield "BACKUP_DATABASE", f"the database does not hold the Helm release {release}"


def _strangers(root: str, seals: list[str]) -> Iterator[Reason]:
    """Yield what says that token, certificates and database are not of one cluster.

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
