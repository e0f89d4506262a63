"""A folder of backups, as the controller and other nodes keep them.

    NODE/ID.tar.gz          the archive (.tar.gz.age: encrypted)
    NODE/ID.json            its summary: it is written last, and without it there is no backup
    NODE/ID.proof.json      the result of the last proof of each copy

The contract: no file is half written unless its name ends in a suffix of its own, nothing is wider than 0600 in folders
of 0700, and the newest proven backup is never removed.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import damaged, decode_summary, encode_summary, shown
from gb10.programs.backups.listing import ID
from gb10.programs.files import finish, sha256_of

SUFFIXES = (".tar.gz", ".tar.gz.age")
SUMMARY = ".json"
PROOF = ".proof.json"
PART = ".part"
CONTROLLER = "controller"  # the name of the controller's store in proof results; others have their hosts' names
LEFT_SECONDS = 3600  # after which what a dead run left is removed
DAY_SECONDS = 86400
AHEAD_SECONDS = 300  # a time further in the future than this is wrong

# These do not count against the archive: it is old, its key is missing, or it could not be tried.
UNTRIED = {"BACKUP_STALE", "BACKUP_KEY", "KEEPER_FULL", "DISK_FULL", "NODE_UNREACHABLE", "BACKUP_FAILED", "LOCKED"}
ODD_ERRORS = (AttributeError, LookupError, TypeError, ValueError)  # of reading what is no proof result


# Files ----------------------------------------------------------------------------------------------------------------


def check_names(node: object, backup: object = None) -> None:
    """Raise RefusedError unless these are the names of a node and of a backup of it: they become parts of paths."""
    stamp = "20260101T000000Z"
    name = f"{node}-{stamp}" if backup is None else str(backup)
    match = ID.fullmatch(name)
    try:
        time.strptime(match["when"] if match else "", "%Y%m%dT%H%M%SZ")
    except ValueError:
        match = None
    if match is None or match["node"] != node:
        raise RefusedError("BACKUP_UNSAFE", f"{shown(name)} is no backup of {shown(str(node))}")


def checked_summary(found: Any, node: str, backup: str) -> dict[str, Any]:
    """Return a summary that another machine sent. Raise RefusedError if it is not of the backup that was asked for."""
    try:
        summary = decode_summary(encode_summary(found))
    except TypeError:
        raise damaged("its summary is not as it was written") from None
    if (summary["node"], summary["id"]) != (node, backup):
        raise RefusedError("BACKUP_FOREIGN", f"{backup} was asked for, and {shown(summary['id'])} was sent")
    return summary


def node_folder(root: str, node: str) -> str:
    """Return the folder of a node's backups, closed to others; make it if it is missing."""
    check_names(node)
    folder = os.path.join(root, node)
    for path in (root, folder):
        with contextlib.suppress(FileExistsError):
            os.makedirs(path, 0o700)
        os.chmod(path, 0o700)
    return folder


@contextlib.contextmanager
def incoming(root: str, node: str, name: str) -> Iterator[BinaryIO]:
    """Open a new file that gets its name when the block has ended well. By then it is on the disk."""
    path = os.path.join(node_folder(root, node), name)
    file = os.fdopen(os.open(path + PART, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w+b")
    try:
        with file:
            yield file
            finish(file, path + PART, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + PART)
        raise


def put(root: str, node: str, name: str, content: bytes) -> None:
    with incoming(root, node, name) as file:
        file.write(content)


def receive(root: str, summary: Mapping[str, Any], chunks: Iterable[bytes]) -> None:
    """Write an archive and then its summary. Raise RefusedError if the summary is not of this archive."""
    check_names(summary["node"], summary["id"])
    found, size = hashlib.sha256(), 0
    with incoming(root, summary["node"], archive_name(summary)) as file:
        for chunk in chunks:
            file.write(chunk)
            found.update(chunk)
            size += len(chunk)
        if (size, found.hexdigest()) != (summary["size"], summary["sha256"]):
            raise RefusedError("BACKUP_FAILED", f"{size} of {summary['size']} bytes arrived as they were sent")
    put(root, summary["node"], summary["id"] + SUMMARY, encode_summary(summary))


def read_summary(root: str, node: str, backup: str) -> dict[str, Any]:
    """Return the summary of a backup. Raise RefusedError if it is missing or has changed."""
    check_names(node)
    check_names(backup.rpartition("-")[0], backup)
    try:
        with open(os.path.join(root, node, backup + SUMMARY), "rb") as file:
            return decode_summary(file.read())
    except FileNotFoundError:
        raise RefusedError("BACKUP_MISSING", "it is not there: no backup is complete without a summary") from None
    except OSError as error:
        raise damaged(f"its summary cannot be read: {error.strerror}") from None


def archive_name(summary: Mapping[str, Any]) -> str:
    """Return the name of the archive that a summary describes."""
    check_names(summary["node"], summary["id"])
    return f"{summary['id']}{SUFFIXES[bool(summary['encrypted'])]}"


def ids(root: str, node: str) -> list[str]:
    """Return the ids of all backups of a node that have a summary."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = os.listdir(os.path.join(root, node))
        found = [name[: -len(SUMMARY)] for name in names if name.endswith(SUMMARY) and not name.endswith(PROOF)]
        return [name for name in found if (match := ID.fullmatch(name)) and match["node"] == node]
    return []


def newest(root: str, node: str) -> str | None:
    """Return the id of the newest backup of a node that has a summary, or None."""
    return max(ids(root, node), key=made_at, default=None)


def is_whole(root: str, node: str, backup: str) -> bool:
    """Return True if a backup is here, and its archive is the one that its summary describes."""
    with contextlib.suppress(RefusedError, OSError):
        summary = read_summary(root, node, backup)
        return sha256_of(os.path.join(root, node, archive_name(summary))) == str(summary["sha256"])
    return False


def made_at(backup: str) -> str:
    """Return the time in the id of a backup."""
    return backup.rpartition("-")[2]


def made_seconds(backup: str) -> float:
    """Return the time in the id of a backup, in seconds since the epoch."""
    return float(calendar.timegm(time.strptime(made_at(backup), "%Y%m%dT%H%M%SZ")))


# Proofs ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProofResult:
    """The result of proving one copy of a backup. Without reasons against it, the copy is proven."""

    where: str  # "controller", or the name of the host that keeps the copy
    node: str  # whose backup it is
    id: str
    at: float  # seconds since the epoch
    sha256: str | None = None
    created: str | None = None
    opened: bool = False  # unpacked and compared; an encrypted one is opened on the controller alone
    encrypted: bool | None = None
    nodes: tuple[str, ...] | None = None  # in the database of a head
    reasons: tuple[tuple[str, str], ...] = ()  # code of the catalogue and text

    @property
    def proven(self) -> bool:
        return not self.reasons

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(code for code, _ in self.reasons)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for _, text in self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Return the result as it is written in the file."""
        return {**asdict(self), "codes": list(self.codes), "reasons": list(self.texts), "proven": self.proven}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ProofResult:
        """Return the result that `to_json` described. Raise ODD_ERRORS for anything else."""
        reasons = tuple(zip(map(shown, document["codes"]), map(shown, document["reasons"]), strict=True))
        if document["proven"] is not (not reasons):
            raise ValueError("it is proven and refused at the same time, or neither")
        nodes = document["nodes"] if document["nodes"] is None else tuple(document["nodes"])
        same = {name: document[name] for name in ("where", "node", "id", "sha256", "created", "opened")}
        at, encrypted = float(document["at"]), document.get("encrypted")
        return cls(**same, at=at, encrypted=encrypted, nodes=nodes, reasons=reasons)


def read_proofs(root: str, node: str, backup: str) -> list[ProofResult]:
    """Return the result of the last proof of each copy that this store knows of."""
    try:
        with open(os.path.join(root, node, backup + PROOF), encoding="utf-8") as file:
            copies = list(json.load(file)["copies"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
    found = []
    for copy in copies:
        with contextlib.suppress(*ODD_ERRORS):
            found.append(ProofResult.from_json(copy))
    return found


def write_proofs(root: str, node: str, backup: str, results: Iterable[ProofResult]) -> None:
    """Write down the results of proofs that were made here, or that this controller had a keeper make.

    A copy that was proven stays so if it is only too old now, or could not be tried.
    """
    known = {copy.where: copy for copy in read_proofs(root, node, backup)}
    for result in results:
        before = known.get(result.where)
        tried = result.proven or set(result.codes) - UNTRIED
        if tried or not (before and before.proven):
            known[result.where] = result
    if known and os.path.isdir(os.path.join(root, node)):
        document = {"format": 1, "copies": [copy.to_json() for copy in known.values()]}
        put(root, node, backup + PROOF, json.dumps(document, indent=1).encode() + b"\n")


def is_proven(root: str, node: str, backup: str, where: str) -> bool:
    """Return True if the archive that is kept here was proven in this store, named `where`."""
    with contextlib.suppress(RefusedError):
        sha256 = read_summary(root, node, backup)["sha256"]
        copies = [copy for copy in read_proofs(root, node, backup) if copy.where == where]
        return any(copy.proven and copy.sha256 == sha256 for copy in copies)
    return False


# Old backups ----------------------------------------------------------------------------------------------------------


def prune(root: str, node: str, count: int | None, days: int | None, now: float, where: str) -> list[str]:
    """Remove backups beyond the newest `count` and those older than `days`; return their ids.

    None switches a limit off. The newest one stays, and the newest that was proven in this store, named `where`.
    Backups of another machine that once had the node's name stay, too.
    """
    found = same_machine(root, node, sorted(ids(root, node), key=made_at, reverse=True))
    proven = next((backup for backup in found if is_proven(root, node, backup, where)), None)
    gone = []
    for place, backup in enumerate(found):
        beyond = count is not None and place >= count
        old = days is not None and now - made_seconds(backup) > days * DAY_SECONDS
        if place > 0 and backup != proven and (beyond or old):
            gone.append(backup)
    for backup in gone:
        # The summary goes first: without it there is no backup.
        for suffix in (SUMMARY, PROOF, *SUFFIXES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(root, node, backup + suffix))
    _remove_leftovers(root, node, now)
    return gone


def same_machine(root: str, node: str, found: Sequence[str]) -> list[str]:
    """Return the backups that are of the first one's machine: they have a MAC in common."""
    macs = {backup: _macs(root, node, backup) for backup in found}
    return [backup for backup in found if backup == found[0] or macs[backup] & macs[found[0]]]


def _macs(root: str, node: str, backup: str) -> set[str]:
    with contextlib.suppress(RefusedError):
        machine = read_summary(root, node, backup).get("machine") or {}
        return set((machine.get("macs") or {}).values())
    return set()


def _remove_leftovers(root: str, node: str, now: float) -> None:
    """Remove parts of files, and archives that never got a summary."""
    folder = os.path.join(root, node)
    known = set(ids(root, node))
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        suffix = next((suffix for suffix in (PART, *reversed(SUFFIXES)) if name.endswith(suffix)), None)
        path = os.path.join(folder, name)
        if suffix and name[: -len(suffix)] not in known and now - os.lstat(path).st_mtime > LEFT_SECONDS:
            os.unlink(path)
