"""A folder of backups, as the controller and other nodes keep them: what is put in, proven, listed and thrown away.

This file also runs on the nodes, as text for their own python3: standard library only.

    NODE/ID.tar.gz          the archive (.tar.gz.age: encrypted)
    NODE/ID.json            its summary: it is written last, and without it there is no backup
    NODE/ID.proof.json      what came of the last proof

The contract: no name without a suffix of its own is ever half written, nothing is wider than 0600 in folders of 0700,
and the newest backup that was proven is never thrown away.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from gb10.programs.archive import (
    CHUNK,
    ID,
    ArchiveError,
    decode_summary,
    encode_summary,
    file_digest,
    sync_folder,
)
from gb10.programs.backups.proof import prove_copy

SUFFIXES = (".tar.gz", ".tar.gz.age")
SUMMARY = ".json"
PROOF = ".proof.json"
PART = ".part"
PROVING = ".proving"
CONTROLLER = "controller"  # how evidence names the controller's store; others are called as their hosts
# These say nothing against the archive: it is old, we have no key for it, or it could not be tried.
UNTOLD = {"BACKUP_STALE", "BACKUP_KEY", "KEEPER_FULL", "DISK_FULL", "NODE_UNREACHABLE", "BACKUP_FAILED", "LOCKED"}
LEFT_SECONDS = 3600  # after which what a dead run left is thrown away
ROOM_BYTES = 32 << 20  # what has to stay free


class StoreError(Exception):
    """Why a store does not take a backup: a code of the catalogue, and what happened."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def node_folder(root: str, node: str) -> str:
    """The folder of a node's backups, closed to others; made where it is missing."""
    folder = os.path.join(root, node)
    for path in (root, folder):
        with contextlib.suppress(FileExistsError):
            os.makedirs(path, 0o700)
        os.chmod(path, 0o700)
    return folder


@contextlib.contextmanager
def incoming(root: str, node: str, name: str) -> Iterator[BinaryIO]:
    """A new file, which gets its name when the block has ended well, and is on the disk by then."""
    path = os.path.join(node_folder(root, node), name)
    file = os.fdopen(os.open(path + PART, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w+b")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + PART, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + PART)
        raise
    sync_folder(os.path.dirname(path))


def put(root: str, node: str, name: str, content: bytes) -> None:
    """Write a small file."""
    with incoming(root, node, name) as file:
        file.write(content)


def read_summary(root: str, node: str, backup: str) -> dict[str, Any]:
    """The summary of a backup. Raise ArchiveError where it is missing, or not as it was written."""
    try:
        with open(os.path.join(root, node, backup + SUMMARY), "rb") as file:
            return decode_summary(file.read())
    except FileNotFoundError:
        raise ArchiveError("BACKUP_MISSING", "it is not there: no backup is complete without a summary") from None
    except OSError as error:
        raise ArchiveError("BACKUP_DAMAGED", f"its summary cannot be read: {error.strerror}") from None


def archive_name(summary: Mapping[str, Any]) -> str:
    """The name of the file of which a summary tells."""
    return f"{summary['id']}{SUFFIXES[bool(summary['encrypted'])]}"


def newest(root: str, node: str) -> str | None:
    """The id of the newest backup of a node that has a summary, or None."""
    return max(ids(root, node), key=made_at, default=None)


def ids(root: str, node: str) -> list[str]:
    """The ids of all backups of a node that have a summary."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = os.listdir(os.path.join(root, node))
        found = [name[: -len(SUMMARY)] for name in names if name.endswith(SUMMARY) and not name.endswith(PROOF)]
        return [name for name in found if (match := ID.fullmatch(name)) and match["node"] == node]
    return []


def is_whole(root: str, node: str, backup: str) -> bool:
    """Whether a backup is here, and its archive the one of which its summary tells."""
    with contextlib.suppress(ArchiveError, OSError):
        summary = read_summary(root, node, backup)
        return file_digest(os.path.join(root, node, archive_name(summary))) == str(summary["sha256"])
    return False


def made_at(backup: str) -> str:
    """When a backup was made, as its id says."""
    return backup.rpartition("-")[2]


def made_seconds(backup: str) -> float:
    """The same in seconds since the epoch."""
    return float(calendar.timegm(time.strptime(made_at(backup), "%Y%m%dT%H%M%SZ")))


def evidence(root: str, node: str, backup: str) -> list[dict[str, Any]]:
    """What came of the last proof of each copy that this store knows of."""
    try:
        with open(os.path.join(root, node, backup + PROOF), encoding="utf-8") as file:
            found = json.load(file)["copies"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [copy for copy in found if isinstance(copy, dict)]


def write_evidence(root: str, node: str, backup: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Write down what came of a proof.

    A backup that is only old, or that could not be tried, is as good as it was when it was proven.
    """
    told: dict[str, Mapping[str, Any]] = {copy["where"]: copy for copy in evidence(root, node, backup)}
    for copy in found:
        tried = not copy["codes"] or set(copy["codes"]) - UNTOLD
        if tried or not told.get(copy["where"], {}).get("proven"):
            told[copy["where"]] = copy
    if told and os.path.isdir(os.path.join(root, node)):
        document = {"format": 1, "copies": list(told.values())}
        put(root, node, backup + PROOF, json.dumps(document, indent=1).encode() + b"\n")


def is_proven(root: str, node: str, backup: str, where: str) -> bool:
    """Whether the archive that is kept here was proven here as it is; `where` is what this store is called."""
    with contextlib.suppress(ArchiveError):
        sha256 = read_summary(root, node, backup)["sha256"]
        own = [copy for copy in evidence(root, node, backup) if copy.get("where") == where]
        return any(copy.get("proven") and copy.get("sha256") == sha256 for copy in own)
    return False


def prune(root: str, node: str, count: int | None, days: int | None, now: float, where: str) -> list[str]:
    """Throw away what is not among the newest `count`, or older than `days`; return the ids.

    None switches one of them off. The newest that was proven in this store, called `where`, stays, and so does the
    newest. Those of another machine that once had the name are no business of this one.
    """
    found = same_machine(root, node, sorted(ids(root, node), key=made_at, reverse=True))
    proven = next((backup for backup in found if is_proven(root, node, backup, where)), None)
    gone = [
        backup
        for place, backup in enumerate(found)
        if place > 0
        and backup != proven
        and ((count is not None and place >= count) or (days is not None and now - made_seconds(backup) > days * 86400))
    ]
    for backup in gone:
        # The summary goes first: without it there is no backup.
        for suffix in (SUMMARY, PROOF, *SUFFIXES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(root, node, backup + suffix))
    remove_leftovers(root, node, now)
    return gone


def same_machine(root: str, node: str, found: Sequence[str]) -> list[str]:
    """Of backups, those of the machine that the first one is of: they have a MAC in common."""
    macs = {backup: _macs(root, node, backup) for backup in found}
    return [backup for backup in found if backup == found[0] or macs[backup] & macs[found[0]]]


def _macs(root: str, node: str, backup: str) -> set[str]:
    with contextlib.suppress(ArchiveError):
        machine = read_summary(root, node, backup).get("machine") or {}
        return set((machine.get("macs") or {}).values())
    return set()


def remove_leftovers(root: str, node: str, now: float) -> None:
    """Throw away what runs left that died: parts, and archives that never got a summary."""
    folder = os.path.join(root, node)
    known = set(ids(root, node))
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        suffix = next((suffix for suffix in (PART, *reversed(SUFFIXES)) if name.endswith(suffix)), None)
        path = os.path.join(folder, name)
        if suffix and name[: -len(suffix)] not in known and now - os.lstat(path).st_mtime > LEFT_SECONDS:
            os.unlink(path)


@contextlib.contextmanager
def workshop(root: str) -> Iterator[str]:
    """A folder to unpack in, closed to others, empty before and gone after; what dead runs left goes, too."""
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
    """Remove a workshop whose owner is gone: his lock went with him."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def prove(root: str, job: Mapping[str, Any], plain: str | None = None) -> dict[str, Any]:
    """Prove a backup of this store, and return what came of it.

    + job: node, id, where (what this store is called), expected (see gb10.programs.backups.proof), trusted
    + plain: of an encrypted one, its archive, decrypted
    """
    node, backup = job["node"], job["id"]
    with workshop(root) as scratch:
        found = prove_copy(os.path.join(root, node), backup, job["expected"], scratch, plain, job.get("trusted"))
    return {"where": job["where"], "node": node, "id": backup, "at": time.time(), **found}


def free_bytes(root: str) -> int:
    """The room that the store's file system has left."""
    while not os.path.isdir(root):
        root = os.path.dirname(root)
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


# What a keeping node is told to do ------------------------------------------------------------------------------------


def keep(job: dict[str, Any]) -> None:
    """Take an archive from standard input. `job`: root, where (see `prove`), summary, count, days."""
    root, summary = job["root"], job["summary"]
    node = summary["node"]
    try:
        if free_bytes(root) < summary["size"] + ROOM_BYTES:
            raise StoreError(
                "KEEPER_FULL", f"{root} has {free_bytes(root)} bytes left, and {summary['size']} are to come"
            )
        receive(root, summary, iter(lambda: sys.stdin.buffer.read(CHUNK), b""))
        prune(root, node, job["count"], job["days"], time.time(), job["where"])
    except StoreError as error:
        _stop(error.code, error.reason)
    except OSError as error:
        _stop("KEEPER_FULL" if error.errno in (28, 122) else "BACKUP_FAILED", f"{root}: {error.strerror}")


def receive(root: str, summary: Mapping[str, Any], chunks: Iterable[bytes]) -> None:
    """Take an archive, and after it its summary. Raise StoreError where it is not the one of which that tells."""
    found, size = hashlib.sha256(), 0
    with incoming(root, summary["node"], archive_name(summary)) as file:
        for chunk in chunks:
            file.write(chunk)
            found.update(chunk)
            size += len(chunk)
        if (size, found.hexdigest()) != (summary["size"], summary["sha256"]):
            raise StoreError("BACKUP_FAILED", f"{size} of {summary['size']} bytes arrived as they were sent")
    put(root, summary["node"], summary["id"] + SUMMARY, encode_summary(summary))


def prove_here(job: dict[str, Any]) -> None:
    """Prove a backup that this node keeps, and print what came of it. `job`: root, and see `prove`."""
    found = prove(job["root"], job)
    write_evidence(job["root"], job["node"], job["id"], [found])
    json.dump(found, sys.stdout)


def give(job: dict[str, Any]) -> None:
    """Print a summary in one line, and the archive after it. `job`: root, node, id."""
    try:
        summary = read_summary(job["root"], job["node"], job["id"])
        with open(os.path.join(job["root"], job["node"], archive_name(summary)), "rb") as file:
            sys.stdout.buffer.write(json.dumps(summary).encode() + b"\n")
            shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)
    except ArchiveError as error:
        _stop(error.code, error.reason)
    except OSError as error:
        _stop("BACKUP_MISSING", f"it cannot be read: {error.strerror}")


def _stop(code: str, reason: str) -> None:
    print(f"gb10: {code}: {reason}", file=sys.stderr)
    sys.exit(1)
