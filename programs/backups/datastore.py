"""The datastore of K3s in an unpacked backup: opened, and compared with what the cluster had."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence

from gb10.programs.archive.manifest import ROOT, Manifest
from gb10.programs.backups.evidence import Reason
from gb10.programs.backups.node_paths import AUTHORITY, DATABASE, TOKEN


def examine(scratch: str, manifest: Manifest) -> tuple[tuple[str, ...] | None, list[Reason]]:
    """Open the database; return the names of its nodes, and what speaks against it."""
    root = os.path.join(scratch, ROOT)
    if not os.path.isfile(root + DATABASE):
        return None, []  # the proof says elsewhere that it is missing
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
    nodes = tuple(sorted(key.rpartition("/")[2] for key in keys if key.startswith("/registry/minions/")))
    return nodes, [*_missing(keys, nodes, manifest), *_strangers(root, seals)]


def _live_keys(database: sqlite3.Connection) -> set[str]:
    """Return the keys of what exists: kine keeps every revision, and the last one may be a deletion."""
    rows = database.execute(
        "SELECT name FROM kine WHERE id IN (SELECT max(id) FROM kine GROUP BY name) AND deleted = 0"
    )
    return {str(name) for (name,) in rows}


def _missing(keys: set[str], nodes: Sequence[str], manifest: Manifest) -> Iterator[Reason]:
    """Yield what the cluster had and the database lacks."""
    cluster = manifest.about.get("cluster") or {}
    for node in cluster.get("nodes", [manifest.node] if not cluster else []):
        if node not in nodes:
            yield "BACKUP_DATABASE", f"the database does not hold the node {node}"
    for release in cluster.get("releases", []):
        if f"/registry/secrets/{release}" not in keys:
            yield "BACKUP_DATABASE", f"the database does not hold the Helm release {release}"


def _strangers(root: str, seals: Sequence[str]) -> Iterator[Reason]:
    """Yield the reasons why token, certificates and database are not of one cluster.

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
