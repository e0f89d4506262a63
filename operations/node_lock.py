"""The lock on a node: only one run of any controller works on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from weakref import WeakKeyDictionary

from pyinfra.api import State, StringCommand
from pyinfra.context import host

from gb10.facts.node import NodeLock
from gb10.facts.reading.node import JOURNAL_FILE, LOCK_FILE, LockHolder
from gb10.operations.backups.state_folder import journal_folder
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.scripts import run_script
from gb10.programs.answer import RefusedError

LOCK_SECONDS = 30
RUN_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,99}")

_heeded: WeakKeyDictionary[State, set[str]] = WeakKeyDictionary()  # hosts whose lock the run heeds already


def heed_lock() -> None:
    """Have the run refused on this host if another controller holds its lock; once in a run, before anything else."""
    hosts = _heeded.setdefault(host.state, set())
    if host.name not in hosts:
        hosts.add(host.name)
        heeded(name="Heed the node's lock")


@operation()
def heeded() -> Commands:
    """Refuse a node that a run of another controller works on. A run whose journal is on this controller is ours."""
    found = known(NodeLock)
    if found and not is_ours(found):
        raise _taken(found)
    host.noop("no other controller works on the node")
    return
    yield


def is_ours(holder: LockHolder) -> bool:
    """Return True if the journal of the run that holds a lock is on this controller."""
    return bool(RUN_NAME.fullmatch(holder.run)) and (journal_folder() / f"{holder.run}.jsonl").exists()


def _taken(holder: LockHolder) -> RefusedError:
    return RefusedError(
        "NODE_LOCKED", f"{host.name} is being worked on by {holder} since {holder.since}, run {holder.run}"
    )


@operation()
def locked(holder: LockHolder, instead_of: str | None = None) -> Commands:
    """Hold the node's lock. A lock of the same run is taken over; if two runs come at the same time, one gets it.

    + instead_of: a run whose lock is taken over, too
    """
    found = known(NodeLock)
    if found == holder:
        host.noop("the node is locked by this very run")
        return
    if found and found.run not in (holder.run, instead_of):
        raise _taken(found)
    text = json.dumps(holder.to_json())
    if found:
        write = f"umask 022; cat > {LOCK_FILE}.$$ && sync {LOCK_FILE}.$$"
        yield StringCommand(f"{write} && mv -f {LOCK_FILE}.$$ {LOCK_FILE}", _stdin=text)
        return
    yield run_script("take-lock.sh", LOCK_FILE, text, host.name, seconds=LOCK_SECONDS)


@operation()
def unlocked(run: str | None = None) -> Commands:
    """Remove the node's lock: only that of a run, with the copy of its journal, or any if `run` is None."""
    found = known(NodeLock)
    if found is None or run not in (None, found.run):
        host.noop("there is no such lock")
        return
    yield StringCommand(f"rm -f {LOCK_FILE}", *([JOURNAL_FILE] if run else []))


@operation(is_idempotent=False)
def journal_kept(path: str) -> Commands:
    """
    Keep a copy of a run's journal beside the node's lock, for another controller to go on with. Only root can read it.

    A node without the lock, such as one that was just wiped, gets none.

    + path: of the journal on the controller
    """
    write = f"test -e {LOCK_FILE} || exit 0; umask 077; cat > {JOURNAL_FILE}.$$ && sync {JOURNAL_FILE}.$$"
    yield StringCommand(f"{write} && mv -f {JOURNAL_FILE}.$$ {JOURNAL_FILE}", _stdin=Path(path).read_text())
