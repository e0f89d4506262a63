"""The datastore: an SQLite file in WAL mode with K3s' table name `kine` and one row for each object.

Unlike kine it keeps no history: a row is the newest revision of its object. The latest deletion stays as a tombstone,
so that revisions never go backwards after a restart.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gb10.lab.kube.errors import StartError
from gb10.lab.kube.objects import Obj

REGISTRY = "/registry/"
BOOTSTRAP = "/bootstrap/"

# `name` is Kubernetes' key of the object, for other readers; `place` is our own key.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kine
    (id INTEGER PRIMARY KEY, name TEXT UNIQUE, deleted INTEGER NOT NULL, value BLOB, place TEXT);
"""
_KEPT_AS = {"nodes": "minions"}  # the one resource that Kubernetes stores under an old name


def _name(place: str) -> str:
    """Convert group/resource/namespace/name to a key such as /registry/minions/spark-1."""
    group, plural, namespace, name = place.split("/")
    return REGISTRY + "/".join(part for part in (group, _KEPT_AS.get(plural, plural), namespace, name) if part)


class Database:
    """An open datastore. It is not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raise StartError if it is not a database."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise StartError(f"starting kubernetes: preparing server: building kine: {path}: {error}") from error
        path.chmod(0o600)

    def revision(self) -> int:
        (highest,) = self._connection.execute("SELECT max(id) FROM kine").fetchone()
        return highest or 0

    def objects(self) -> Iterator[tuple[str, Obj]]:
        """Yield all stored objects with their keys, oldest revision first."""
        rows = self._connection.execute(
            "SELECT place, value FROM kine WHERE deleted = 0 AND place IS NOT NULL ORDER BY id"
        )
        for place, value in rows:
            yield place, json.loads(value)

    def write(self, revision: int, key: str, obj: Obj | None) -> None:
        """Store an object with its new revision, or a tombstone for None."""
        value = None if obj is None else json.dumps(obj, separators=(",", ":"))
        connection, name = self._connection, _name(key)
        connection.execute("BEGIN")
        connection.execute("DELETE FROM kine WHERE name = ? OR deleted = 1", (name,))
        connection.execute("INSERT INTO kine VALUES (?, ?, ?, ?, ?)", (revision, name, obj is None, value, key))
        connection.execute("COMMIT")

    def bootstrap(self) -> tuple[str, str] | None:
        """Return the digest of the cluster's token and the encrypted certificates, or None."""
        row = self._connection.execute("SELECT name, value FROM kine WHERE name LIKE ?", (f"{BOOTSTRAP}%",)).fetchone()
        return (row[0].removeprefix(BOOTSTRAP), row[1]) if row else None

    def write_bootstrap(self, digest: str, sealed: str) -> None:
        self._connection.execute(
            "INSERT INTO kine VALUES (?, ?, 0, ?, NULL)", (self.revision() + 1, BOOTSTRAP + digest, sealed)
        )

    def close(self) -> None:
        self._connection.close()
