"""A backup of a node, sent as an archive. Models, images and logs are not in it.

The contract: nothing on the node changes. Scratch files are closed to others and removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import grp
import json
import os
import pwd
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.archive.files import FULL, remove
from gb10.programs.archive.manifest import ROOT, summary_of
from gb10.programs.archive.writing import UnwritableError, Writer
from gb10.programs.backups.node_lists import below, cluster_names, images, models, output, own_containers
from gb10.programs.backups.node_paths import CERTIFICATES, DATABASE, DISPENSABLE, HOMES, NEVER, PATHS, SERVER, TOKENS
from gb10.programs.files import free_bytes, is_short

HUMANS = range(1000, 60000)
# Name -> command whose output is kept.
LISTS = {
    "packages.txt": ("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n"),
    "packages-chosen.txt": ("apt-mark", "showmanual"),
    "units.txt": ("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--state=enabled,disabled,masked"),
}
SCRATCH = "/var/lib/gb10/backup"
ROOM_BYTES = 64 << 20  # must stay free beside the copy of the database
BUSY_SECONDS = 20  # to wait for another process to unlock the database


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Send the archive; return its summary, with the notes as "noted".

    + job: id, node, created, about, paths, hub, serving
    """
    try:
        with scratch_folder() as scratch:
            writer = Writer(outlet, scratch)
            about = _add_all(writer, job, scratch)
            manifest = writer.close(id=job["id"], node=job["node"], created=job["created"], about=about)
    except (UnwritableError, OSError) as error:
        code = "DISK_FULL" if error.errno in FULL else "BACKUP_FAILED"
        reason = f"the archive cannot be written, with {SCRATCH} as its scratch folder: {error.strerror}"
        raise RefusedError(code, reason) from error
    return {**summary_of(manifest, "", 0, False), "noted": [vars(note) for note in manifest.notes]}


def _add_all(writer: Writer, job: dict[str, Any], scratch: str) -> dict[str, Any]:
    """Add everything that is in a backup; return the description of the node."""
    has_database = os.path.exists(DATABASE)
    about = dict(job["about"])
    about["versions"] = {**about["versions"], "kernel": os.uname().release}
    about["cluster"] = cluster_names() if has_database else None
    # The certificates come after the database: one that was renewed meanwhile shows by its time.
    about["database"] = add_database(writer, scratch) if has_database else None
    add_paths(writer)
    named = add_homes(writer, job["hub"])
    add_users(writer)
    add_lists(writer, job)
    for path in job["paths"]:
        add_extra(writer, path)
    note_links(writer, [*named, *map(os.path.normpath, job["paths"])])
    return about


def add_paths(writer: Writer) -> None:
    for part, patterns in PATHS.items():
        for pattern in patterns:
            for path in sorted(glob.glob(pattern)):
                writer.add_tree(path, part)
    if os.path.isdir(SERVER):
        writer.add_tree(SERVER, "k3s", lambda path: path in DISPENSABLE)


def add_homes(writer: Writer, hub: str) -> list[str]:
    """Add keys and tokens of people, from their homes and from beside the model cache; return their paths."""
    tokens = [os.path.join(os.path.dirname(hub), name) for name in TOKENS]
    own = [(os.path.join(user.pw_dir, name), part) for user in humans() for part in HOMES for name in HOMES[part]]
    for path, part in (*((path, "users") for path in tokens), *own):
        writer.add_tree(path, part)
    return [*tokens, *(path for path, _ in own)]


def note_links(writer: Writer, paths: Iterable[str]) -> None:
    """Note each of these paths that is a link to something outside the archive."""
    for path in paths:
        end = os.path.realpath(path)
        if os.path.islink(path) and os.path.exists(end) and ROOT + end not in writer.members:
            text = f"is a link, and {end}, where it leads, is not in the backup: let backup_paths name that"
            writer.note(path, text, harms=os.path.isdir(end))


def humans() -> list[pwd.struct_passwd]:
    return [user for user in pwd.getpwall() if user.pw_uid in HUMANS]


def add_users(writer: Writer) -> None:
    """Add the lines of people's accounts and groups, with numbers and password hashes."""
    people = {user.pw_name for user in humans()}
    groups = {group.gr_name for group in grp.getgrall() if people & set(group.gr_mem) or group.gr_gid in HUMANS}
    groups |= {group.gr_name for user in humans() for group in grp.getgrall() if group.gr_gid == user.pw_gid}
    files = {"passwd": people, "shadow": people, "group": groups, "gshadow": groups, "subuid": people, "subgid": people}
    lines = {file: named_lines(f"/etc/{file}", names) for file, names in files.items()}
    _add_json(writer, "users.json", lines, "users")


def named_lines(path: str, names: set[str]) -> list[str]:
    """Return the lines for these names in a file like passwd; none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in file.read().splitlines() if line.split(":")[0] in names]
    except OSError:
        return []


def add_lists(writer: Writer, job: dict[str, Any]) -> None:
    """Add descriptions of the node that are not restored as files."""
    for name, command in LISTS.items():
        printed = output(*command)
        if printed is None:
            writer.note(f"gb10/{name}", f"{command[0]} printed nothing")
        else:
            writer.add_text(name, printed, "system")
    containers = own_containers(writer)
    if containers is not None:
        _add_json(writer, "containers.json", containers, "serving")
    if job["serving"] is not None:
        _add_json(writer, "serving.json", job["serving"], "serving")
    _add_json(writer, "images.json", images(writer), "inventory-of")
    _add_json(writer, "models.json", models(job["hub"]), "inventory-of")


def _add_json(writer: Writer, name: str, document: Any, part: str) -> None:
    writer.add_text(name, json.dumps(document, indent=1) + "\n", part)


def add_extra(writer: Writer, path: str) -> None:
    """Add a path of the setting backup_paths."""
    path = os.path.normpath(path)
    if not os.path.lexists(path):
        writer.note(path, "is not on the node")
    elif path == "/" or any(path == never or path.startswith(never + "/") for never in NEVER):
        writer.note(path, "is never in a backup", harms=True)
    else:
        writer.add_tree(path, "extra")


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """Make an empty folder, closed to others, that is removed after the block. Refuse a second backup meanwhile."""
    os.makedirs(os.path.dirname(SCRATCH), 0o755, exist_ok=True)
    os.makedirs(SCRATCH, 0o700, exist_ok=True)
    os.chmod(SCRATCH, 0o700)
    handle = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RefusedError("LOCKED", "another backup of this node is being made") from None
    _empty(SCRATCH)
    try:
        yield SCRATCH
    finally:
        _empty(SCRATCH)
        os.rmdir(SCRATCH)
        os.close(handle)


def _empty(folder: str) -> None:
    for name in os.listdir(folder):
        remove(os.path.join(folder, name))


# The database of K3s --------------------------------------------------------------------------------------------------


def add_database(writer: Writer, scratch: str) -> dict[str, Any]:
    """Add a consistent copy of the database, or the damaged one as it is; return its kind and consistency."""
    folder = os.path.dirname(DATABASE)
    if os.path.isdir(f"{folder}/etcd"):
        writer.add_tree(folder, "k3s")
        writer.note(folder, "is an embedded etcd, of which no consistent copy is made", harms=True)
        return {"kind": "etcd", "consistent": False}
    size = sum(os.path.getsize(path) for path in glob.glob(f"{DATABASE}*"))
    if is_short(free_bytes(scratch), size, ROOM_BYTES):
        raise RefusedError("DISK_FULL", f"a copy of the database needs {size} bytes in {scratch}")
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
    """Return True if K3s, with its unit in this state, may have the database open: also while it starts or stops."""
    return (state or "").strip() not in ("inactive", "failed")


def _times(paths: Iterable[str]) -> dict[str, int]:
    found = [file for path in paths for file in (below(path) if os.path.isdir(path) else [path])]
    return {path: os.lstat(path).st_mtime_ns for path in found if os.path.lexists(path)}


def copied(copy: str, scratch: str, running: bool) -> str | None:
    """Make a consistent copy of the database with SQLite's online backup; return None, or why it is damaged.

    If K3s does not run, its files are copied first: opening them would change them.
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
            # All pages in one step: if another process wrote between two steps, SQLite would begin anew.
            database.backup(other, pages=-1)
            other.execute("PRAGMA journal_mode=DELETE")
            (answer, *_), *_ = other.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.Error as error:
        if str(error) == "database or disk is full":
            raise OSError(errno.ENOSPC, str(error)) from error
        return str(error)
    return None if answer == "ok" else str(answer)
