"""Puts together what a rebuild or a full wipe works with, from what a command line has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gb10.controller.cluster.sight import Sight
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.journal import Journal
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.reporting import Listener, Reporter
from gb10.controller.rebuild.tools import NodeLocks, Person, Tools, Watch, Work
from gb10.controller.run.runner import Runner
from gb10.group_data.settings import RebuildSettings


@dataclass(frozen=True)
class Front:
    """How a command shows what goes on, and asks the person before it.

    + listener: shows what is told of the run
    + watch: shows how the run of one deploy goes
    + ask: asks a question; None if nobody is there to answer
    + note: shows a line that is not worth remembering
    + keys: host keys that the person has confirmed beforehand
    + options: where the inventory is, for commands that the person is to type
    """

    listener: Listener
    watch: Watch
    ask: Callable[[str], bool] | None
    note: Callable[[str], None]
    keys: Sequence[str] = ()
    options: str = ""


def make_tools(
    inventory: Inventory,
    runner: Callable[[Iterable[str]], Runner],
    journal: Journal,
    front: Front,
    events: Path | None = None,
) -> Tools:
    """Return what a run works with. `events` is a file to which everything that goes on is appended."""
    settings = inventory.hosts[0].settings(RebuildSettings)
    hooks = Hooks(settings.hooks, settings.notify)
    work = Work(inventory, runner, front.watch)
    return Tools(
        inventory=inventory,
        sight=Sight(runner, inventory),
        journal=journal,
        report=Reporter(journal, front.listener, events),
        work=work,
        locks=NodeLocks(inventory, journal, work),
        person=Person(hooks, front.ask, front.note, front.keys, front.options),
        hooks=hooks,
    )


def check_events(events: Path | None) -> None:
    """Raise USAGE for a file to which events cannot be appended."""
    try:
        if events:
            events.open("a").close()
    except OSError as error:
        raise Gb10Error("USAGE", reason=f"--events {events}: {error.strerror}") from error
