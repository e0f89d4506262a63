"""Locks of this controller: one gb10 at a time for each node.

A lock is a flock on a file, so it ends with its process. It is named by the address of the node's sshd, so that two
inventories with the same node share its lock.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gb10.controller.errors import Gb10Error
from gb10.controller.paths import private_folder
from gb10.controller.waiting import wait_until
from gb10.operations.kit.files import write_atomically

OWNER_SECONDS = 1.0  # between taking a lock and writing its owner


@dataclass(frozen=True)
class Owner:
    """The holder of a lock, and since when (local time, to the second)."""

    user: str
    controller: str
    pid: int
    command: str
    since: str

    @classmethod
    def me(cls, command: str) -> Owner:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(_user(), socket.gethostname(), os.getpid(), command, now)

    def __str__(self) -> str:
        return f"{self.user}@{self.controller} (pid {self.pid}: {self.command})"


@contextmanager
def cluster_lock(endpoints: Iterable[str], command: str, folder: Path | None = None) -> Iterator[None]:
    """Hold the locks of these nodes. Raise LOCKED, with the owner, if one is taken.

    All processes take them in the same order, so that one of two with common nodes gets all of its locks.
    """
    folder = folder or private_folder("locks")
    with ExitStack() as held:
        for endpoint in sorted(set(endpoints)):
            path = folder / hashlib.sha256(endpoint.encode()).hexdigest()[:20]
            lock = FileLock(path.with_suffix(".lock"), mode=0o600)
            try:
                held.enter_context(lock.acquire(timeout=0))
            except Timeout:
                raise _locked(endpoint, path.with_suffix(".json")) from None
            write_atomically(path.with_suffix(".json"), json.dumps(asdict(Owner.me(command))))
        yield


def _locked(endpoint: str, path: Path) -> Gb10Error:
    owner = _read_owner(path)
    if owner is None:
        return Gb10Error("LOCKED", node=endpoint)
    return Gb10Error("LOCKED", node=endpoint, owner=str(owner), since=owner.since, pid=owner.pid)


def _read_owner(path: Path) -> Owner | None:
    """Return the owner of a lock. The file may name a previous owner for a moment: wait for the new one."""
    return wait_until(
        lambda: _parsed_owner(path),
        lambda owner: owner is not None and _lives(owner.pid),
        seconds=OWNER_SECONDS,
        poll_seconds=0.05,
    )


def _parsed_owner(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid())
