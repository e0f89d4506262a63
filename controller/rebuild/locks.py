"""Who holds the nodes: the locks on the nodes themselves, and the lock on this controller."""

from __future__ import annotations

import os

from gb10.controller.cluster.asks import LOCK
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.journal import Journal
from gb10.controller.lock import cluster_lock
from gb10.controller.rebuild.runs import Progress
from gb10.controller.run.runner import Runner
from gb10.facts.reading.node import LockHolder


def holder(journal: Journal, step: str) -> LockHolder:
    """Describe the run of a journal as the holder of locks."""
    started = Progress(journal).started
    return LockHolder(journal.run, started.owner, started.controller, os.getpid(), started.at, step)


def holders(runner: Runner) -> tuple[dict[str, LockHolder], tuple[Gb10Error, ...]]:
    """Ask the runner's hosts who holds them; return that by host, and why the other hosts did not answer."""
    found = runner.facts([LOCK])
    held = {host: found.of(host, LOCK) for host in found.hosts}
    return {host: who for host, who in held.items() if who}, found.errors


def at_work(inventory: Inventory) -> str | None:
    """Return who works on these nodes right now from this controller, or None."""
    try:
        with cluster_lock((host.endpoint for host in inventory.hosts), "gb10 rebuild status"):
            return None
    except Gb10Error as error:
        return str(error.details.get("owner", "another gb10"))
