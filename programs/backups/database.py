"""The datastore of K3s: copied while K3s runs, without stopping or changing anything."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import sqlite3
from collections.abc import Iterable
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.archive.writing import Writer
from gb10.programs.backups.described import below, output
from gb10.programs.backups.node_paths import CERTIFICATES, DATABASE, SERVER
from gb10.programs.room import free_bytes, is_short

ROOM_BYTES = 64 << 20  # must stay free
BUSY_SECONDS = 20  # to wait for another process to unlock the database


def add_database(writer: Writer, scratch: str) -> dict[str, Any]:
    """Add a consistent copy of the database, or the damaged one as it is; return its kind and consistency."""
    folder = os.path.dirname(DATABASE)
    if os.path.isdir(f"{folder}/etcd"):
        writer.add_tree(folder, "k3s")
        writer.note(folder, "is an embedded etcd, of which no consistent copy is made", harms=True)
        return {"kind": "etcd", "consistent": False}
    _check_room(scratch, sum(os.path.getsize(path) for path in glob.glob(f"{DATABASE}*")))
    copy = os.path.join(scratch, "state.db")
    before = _times(CERTIFICATES)
    trouble = copied(copy, scratch, is_running(output("systemctl", "show", "--property=ActiveState", "--value", "k3s")))
    if trouble is None:
        writer.add(folder, "k3s")
        writer.add(DATABASE, "k3s", content_of=copy)
    else:
        writer.add_tree(folder, "k3s")
        writer.note(DATABASE, f"is damaged, and in the backup as it is: {trouble}", harms=True)
    for path in CERTIFICATES:
        writer.add_tree(path, "k3s")
    if _times(CERTIFICATES) != before:
        writer.note(SERVER, "its certificates changed while the database was copied", harms=True)
    return {"kind": "sqlite", "consistent": trouble is None}


def is_running(state: str | None) -> bool:
    """Given the state of K3s' unit, return True if K3s may have the database open, as while it starts or stops."""
    return (state or "").strip() not in ("inactive", "failed")


def _check_room(folder: str, size: int) -> None:
    if is_short(free_bytes(folder), size, ROOM_BYTES):
        raise RefusedError("DISK_FULL", f"a copy of the database needs {size} bytes in {folder}")


def _times(paths: Iterable[str]) -> dict[str, int]:
    """Return when each file was changed."""
    found = [file for path in paths for file in (below(path) if os.path.isdir(path) else [path])]
    return {path: os.lstat(path).st_mtime_ns for path in found if os.path.lexists(path)}


def copied(copy: str, scratch: str, running: bool) -> str | None:
    """Make a consistent copy of the database, with SQLite's online backup; return what is wrong with it, or None.

    If K3s does not run, its files are copied first: to open them would change them.
    """
    source, mode = DATABASE, "ro"
    if not running:
        source, mode = os.path.join(scratch, "stopped.db"), "rw"
        for end in ("", "-wal"):
            if os.path.exists(DATABASE + end):
                shutil.copyfile(DATABASE + end, source + end)
    try:
        with (
            contextlib.closing(
                sqlite3.connect(f"file:{source}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
            ) as database,
            contextlib.closing(sqlite3.connect(copy)) as other,
        ):
            # All pages in one step: between two of them another process may write, and then SQLite begins anew.
            database.backup(other, pages=-1)
            other.execute("PRAGMA journal_mode=DELETE")
            (answer, *_), *_ = other.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.Error as error:
        if str(error) == "database or disk is full":
            raise OSError(errno.ENOSPC, str(error)) from error
        return str(error)
    return None if answer == "ok" else str(answer)
