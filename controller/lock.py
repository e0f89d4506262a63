"""One gb10 at a time for each node, as far as this controller is concerned.

A lock is a flock on a file, so it vanishes with its process, however that ends. Each node has its own, named by where
its sshd listens: two inventories that share a node share its lock.
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

OWNER_SECONDS = 1.0  # between taking a lock and having written down by whom


@dataclass(frozen=True)
class Owner:
    """Who works on a node, and since when (local time, to the second)."""

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
    """Given where the nodes' sshds listen, hold their locks. Raise LOCKED, with the owner, if one is taken.

    They are taken in one order everywhere, so that of two who want some of the same nodes one gets all of his.
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
    """Return who holds the lock. For a moment the file may still name the owner before, who is gone: wait for that."""
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
