"""What a rebuild or a full wipe works with: the reporter, deploys on nodes, the nodes' locks, and the person."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gb10.controller.cluster.view import ClusterView
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.journal import Journal, now
from gb10.controller.rebuild.person import Hooks, Person
from gb10.controller.run.messages import FactQuery
from gb10.controller.run.results import FactsResult, RunResult
from gb10.controller.run.runner import OnEvent, Runner
from gb10.facts.reading.node import LockHolder
from gb10.group_data.settings import RebuildSettings

PROGRESS_SECONDS = 0.5  # between two reports of a copy
READ_SECONDS = 24 * 3600.0  # terabytes, from a slow disk
PASSING = ("seen", "waiting", "instructions")  # events that are shown but not recorded

Listener = Callable[[Mapping[str, Any]], None]  # shows an event


class Reporter:
    """Sends each event to the journal, then to the event stream, then to the screen."""

    def __init__(self, journal: Journal, listener: Listener, events: Path | None = None) -> None:
        self._journal = journal
        self._listener = listener
        self._events = events

    def __call__(self, event: str, /, **details: Any) -> None:
        is_passing = event in PASSING
        record = {"at": now(), "event": event, **details} if is_passing else self._journal.write(event, **details)
        if self._events:
            self._append(self._events, record)
        self._listener(record)

    def _append(self, events: Path, record: Mapping[str, Any]) -> None:
        try:
            with events.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"run": self._journal.run, **record}) + "\n")
        except OSError as error:
            raise Gb10Error("STATE_UNWRITABLE", f"{events} cannot be written: {error.strerror or error}") from error

    def waits(self, **details: Any) -> Callable[[str], None]:
        """Return a function that reports the reason for a wait, unless it is the reason of the last call."""
        last = ""

        def tell(text: str) -> None:
            nonlocal last
            if text != last:
                last = text
                self("waiting", **details, text=text)

        return tell


def check_events(events: Path | None) -> None:
    """Raise USAGE for a file to which events cannot be appended."""
    try:
        if events:
            events.open("a").close()
    except OSError as error:
        raise Gb10Error("USAGE", reason=f"--events {events}: {error.strerror}") from error


class Watch(Protocol):
    """Shows the progress of a deploy while the context lasts; `copies` if it copies files between nodes."""

    def __call__(self, title: str, hosts: tuple[str, ...], *, copies: bool) -> AbstractContextManager[OnEvent]: ...


class Deploys:
    """Runs deploys on nodes. `make_runner` returns a runner for patterns as --limit takes them."""

    def __init__(self, inventory: Inventory, make_runner: Callable[[Iterable[str]], Runner], watch: Watch) -> None:
        self.make_runner = make_runner
        self._inventory = inventory
        self._watch = watch

    def run(self, deploy: str, title: str, hosts: tuple[str, ...], /, *, copies: bool = False, **kwargs: Any) -> None:
        """Run a deploy and show its progress. Raise the error that names the cause of a failure."""
        arguments = {"progress_seconds": PROGRESS_SECONDS, **kwargs} if copies else kwargs
        with self._watch(title, hosts, copies=copies) as on_event:
            result = self.runner(hosts).run(f"gb10.deploys.{deploy}", kwargs=arguments, on_event=on_event)
        result.check()

    def dry_run(self, deploy: str, host: str, /, **kwargs: Any) -> RunResult:
        """Return what a deploy would change on a host. Raise the error that names the cause of a failure."""
        result = self.runner((host,)).run(f"gb10.deploys.{deploy}", dry=True, kwargs=kwargs)
        result.check()
        return result

    def read(self, title: str, hosts: tuple[str, ...], queries: Iterable[FactQuery[Any]]) -> FactsResult:
        """Read facts that may take hours, and show the progress. Raise the error if one cannot be read."""
        with self._watch(title, hosts, copies=True) as on_event:
            found = self.runner(hosts).facts(queries, on_event, seconds=READ_SECONDS)
        for error in found.errors:
            raise error
        return found

    def runner(self, hosts: Iterable[str]) -> Runner:
        """Return a runner for these hosts."""
        return self.make_runner([self.pattern(name) for name in hosts])

    def pattern(self, host: str) -> str:
        """Return the pattern that means this host and not a group of the same name."""
        return self._inventory.limit_pattern(self._inventory.host(host))


class NodeLocks:
    """The locks on the nodes themselves, held by one run."""

    def __init__(self, inventory: Inventory, journal: Journal, deploys: Deploys) -> None:
        self._inventory = inventory
        self._journal = journal
        self._deploys = deploys

    def take(self, hosts: tuple[str, ...], part: str) -> None:
        """Lock hosts for a part of the work."""
        self._deploys.run("lock_nodes", "Lock the nodes", hosts, holder=lock_holder(self._journal, part).to_json())

    def keep_journal(self, absent: Container[str]) -> Gb10Error | None:
        """Copy the journal to the nodes that stay, for another controller to go on with. Return why one has none."""
        back = {record["node"] for record in self._journal.of("returned")}
        away = {record["node"] for record in self._journal.of("wipe-asked")} - back
        stay = [name for name in self._inventory.names if name not in away and name not in absent]
        if not stay:
            return None
        kwargs = {"path": str(self._journal.path)}
        return self._deploys.runner(stay).run("gb10.deploys.keep_journal", kwargs=kwargs).error

    def release(self) -> None:
        """Unlock all nodes."""
        self._deploys.run("unlock_nodes", "Unlock the nodes", self._inventory.names, run=self._journal.run)


def lock_holder(journal: Journal, part: str) -> LockHolder:
    """Describe a run as the holder of locks, for a part of its work."""
    started = journal.last("adopted") or next(journal.of("started"))
    return LockHolder(journal.run, started["owner"], started["controller"], os.getpid(), started["at"], part)


@dataclass(frozen=True)
class Tools:
    """What a rebuild or a full wipe works with."""

    inventory: Inventory
    view: ClusterView
    journal: Journal
    report: Reporter
    deploys: Deploys
    locks: NodeLocks
    person: Person
    hooks: Hooks
    poll_seconds: float = 2.0

    def keep_journal(self) -> None:
        """Copy the journal to the nodes that stay. A node without a copy does not stop the run."""
        error = self.locks.keep_journal(self.view.absent)
        if error and error.code == "INTERRUPTED":
            raise error
        if error:
            self.report("waiting", text=f"a node has no copy of the journal: {error.summary}")


def make_tools(
    inventory: Inventory,
    make_runner: Callable[[Iterable[str]], Runner],
    journal: Journal,
    *,
    listener: Listener,
    watch: Watch,
    ask: Callable[[str], bool] | None,
    note: Callable[[str], None],
    keys: Sequence[str] = (),
    options: str = "",
    events: Path | None = None,
) -> Tools:
    """Return the tools of a run.

    + listener: shows the events of the run
    + watch: shows the progress of one deploy
    + ask, note, keys, options: as in Person
    + events: a file to which every event is appended
    """
    settings = inventory.hosts[0].settings(RebuildSettings)
    hooks = Hooks(settings.hooks, settings.notify)
    deploys = Deploys(inventory, make_runner, watch)
    return Tools(
        inventory=inventory,
        view=ClusterView(make_runner, inventory),
        journal=journal,
        report=Reporter(journal, listener, events),
        deploys=deploys,
        locks=NodeLocks(inventory, journal, deploys),
        person=Person(hooks, ask, note, keys, options),
        hooks=hooks,
    )
