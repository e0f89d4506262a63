"""The lock on a node: only one run of any controller works on it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator

from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.context import host

from gb10.facts.node_lock import NodeLock
from gb10.facts.reading.node_lock import LOCK, LockHolder
from gb10.operations.kit.failures import guarded, known, refuse


@operation()
@guarded
def locked(holder: LockHolder) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Hold the node's lock.

    + holder: the new holder; a lock of the same run is taken over

    If two runs come at the same time, one gets it.
    """
    found = known(NodeLock)
    if found == holder:
        host.noop("the node is locked by this very run")
        return
    if found and found.run != holder.run:
        yield from refuse(
            "NODE_LOCKED", f"{host.name} is being worked on by {found} since {found.since}, run {found.run}"
        )
        return
    text = json.dumps(holder.to_json())
    write = f"umask 022; mkdir -p {LOCK.rpartition('/')[0]} && cat > {LOCK}.$$ && sync {LOCK}.$$"
    if found:
        yield StringCommand(f"{write} && mv -f {LOCK}.$$ {LOCK}", _stdin=text)
        return
    taken = shlex.quote(f"gb10: NODE_LOCKED: {host.name} was locked by somebody else in this moment")
    # A hard link is made or refused in one step, and never shows half a file.
    yield StringCommand(
        f"{write} && if ln {LOCK}.$$ {LOCK}; then rm {LOCK}.$$; else rm {LOCK}.$$; echo {taken} >&2; exit 1; fi",
        _stdin=text,
    )


@operation()
@guarded
def unlocked(run: str | None = None) -> Generator[StringCommand, None, None]:
    """
    Remove the node's lock.

    + run: only the lock of this run; None: of any
    """
    found = known(NodeLock)
    if found is None or run not in (None, found.run):
        host.noop("there is no such lock")
        return
    yield StringCommand(f"rm -f {LOCK}")
