"""A folder of backups, as the controller and other nodes keep them.

    NODE/ID.tar.gz          the archive (.tar.gz.age: encrypted)
    NODE/ID.json            its summary: it is written last, and without it there is no backup
    NODE/ID.proof.json      what came of the last proof

The contract: no file is half written unless its name ends in a suffix of its own, nothing is wider than 0600 in folders
of 0700, and the newest backup that was proven is never thrown away.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import file_digest
from gb10.programs.archive.manifest import ID, damaged
from gb10.programs.archive.summary import decode_summary, encode_summary
from gb10.programs.files import finish

SUFFIXES = (".tar.gz", ".tar.gz.age")
SUMMARY = ".json"
PROOF = ".proof.json"
PART = ".part"
CONTROLLER = "controller"  # the name of the controller's store in evidence; others have their hosts' names


def node_folder(root: str, node: str) -> str:
    """Return the folder of a node's backups, closed to others; make it if it is missing."""
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
            finish(file, path + PART, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + PART)
        raise


def put(root: str, node: str, name: str, content: bytes) -> None:
    """Write a small file."""
    with incoming(root, node, name) as file:
        file.write(content)


def receive(root: str, summary: Mapping[str, Any], chunks: Iterable[bytes]) -> None:
    """Take an archive, and after it its summary. Raise RefusedError if the summary tells of another archive."""
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
    """Return the summary of a backup. Raise RefusedError if it is missing, or not as it was written."""
    try:
        with open(os.path.join(root, node, backup + SUMMARY), "rb") as file:
            return decode_summary(file.read())
    except FileNotFoundError:
        raise RefusedError("BACKUP_MISSING", "it is not there: no backup is complete without a summary") from None
    except OSError as error:
        raise damaged(f"its summary cannot be read: {error.strerror}") from None


def archive_name(summary: Mapping[str, Any]) -> str:
    """Return the name of the file that a summary tells of."""
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
    """Return True if a backup is here, and its archive is the one that its summary tells of."""
    with contextlib.suppress(RefusedError, OSError):
        summary = read_summary(root, node, backup)
        return file_digest(os.path.join(root, node, archive_name(summary))) == str(summary["sha256"])
    return False


def made_at(backup: str) -> str:
    """Return when a backup was made, as its id says."""
    return backup.rpartition("-")[2]


def made_seconds(backup: str) -> float:
    """Return when a backup was made, in seconds since the epoch."""
    return float(calendar.timegm(time.strptime(made_at(backup), "%Y%m%dT%H%M%SZ")))
