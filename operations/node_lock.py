"""The lock on a node: only one run of any controller works on it."""

from __future__ import annotations

import json

from pyinfra.api import StringCommand
from pyinfra.context import host

from gb10.facts.node import NodeLock
from gb10.facts.reading.node import LOCK_FILE, LockHolder
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.scripts import run_script
from gb10.programs.answer import RefusedError

LOCK_SECONDS = 30


@operation()
def locked(holder: LockHolder) -> Commands:
    """Hold the node's lock. A lock of the same run is taken over; if two runs come at the same time, one gets it."""
    found = known(NodeLock)
    if found == holder:
        host.noop("the node is locked by this very run")
        return
    if found and found.run != holder.run:
        text = f"{host.name} is being worked on by {found} since {found.since}, run {found.run}"
        raise RefusedError("NODE_LOCKED", text)
    text = json.dumps(holder.to_json())
    if found:
        write = f"umask 022; cat > {LOCK_FILE}.$$ && sync {LOCK_FILE}.$$"
        yield StringCommand(f"{write} && mv -f {LOCK_FILE}.$$ {LOCK_FILE}", _stdin=text)
        return
    yield run_script("take-lock.sh", LOCK_FILE, text, host.name, seconds=LOCK_SECONDS)


@operation()
def unlocked(run: str | None = None) -> Commands:
    """Remove the node's lock: only that of a run, or any if `run` is None."""
    found = known(NodeLock)
    if found is None or run not in (None, found.run):
        host.noop("there is no such lock")
        return
    yield StringCommand(f"rm -f {LOCK_FILE}")
