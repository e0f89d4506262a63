"""What a rebuild works with: the nodes as they are seen, the journal, and the ways to change and to ask something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from gb10.controller.cluster.sight import Sight
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.rebuild.arrival import HostKey, confirmed
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.locks import holder
from gb10.controller.rebuild.reporting import Report
from gb10.controller.run.results import RunResult
from gb10.controller.run.runner import OnEvent, Runner

PROGRESS_SECONDS = 0.5  # between two reports of a copy


class Watch(Protocol):
    """Shows how the run of a deploy goes, while the context lasts; `copies` if it copies files between nodes."""

    def __call__(self, title: str, hosts: tuple[str, ...], *, copies: bool) -> AbstractContextManager[OnEvent]: ...


class Work:
    """Runs deploys on nodes. `limited` gives a runner for patterns, as --limit takes them."""

    def __init__(self, inventory: Inventory, limited: Callable[[Iterable[str]], Runner], watch: Watch) -> None:
        self.limited = limited
        self._inventory = inventory
        self._watch = watch

    def __call__(
        self, deploy: str, title: str, hosts: tuple[str, ...], /, *, copies: bool = False, **kwargs: Any
    ) -> RunResult:
        """Run a deploy and show how it goes. Raise the error that names the cause."""
        arguments = {"progress_seconds": PROGRESS_SECONDS, **kwargs} if copies else kwargs
        with self._watch(title, hosts, copies=copies) as on_event:
            result = self.runner(hosts).run(f"gb10.deploys.{deploy}", kwargs=arguments, on_event=on_event)
        result.check()
        return result

    def dry(self, deploy: str, host: str, /, **kwargs: Any) -> RunResult:
        """Find what a deploy would change on a host. Raise the error that names the cause."""
        result = self.runner((host,)).run(f"gb10.deploys.{deploy}", dry=True, kwargs=kwargs)
        result.check()
        return result

    def runner(self, hosts: Iterable[str]) -> Runner:
        """A runner for these hosts."""
        return self.limited([self.pattern(name) for name in hosts])

    def pattern(self, host: str) -> str:
        """The pattern that means this host and no group of the same name."""
        return self._inventory.limit_pattern(self._inventory.host(host))


class NodeLocks:
    """The locks on the nodes themselves, held by one run."""

    def __init__(self, inventory: Inventory, journal: Journal, work: Work) -> None:
        self._inventory = inventory
        self._journal = journal
        self._work = work

    def take(self, hosts: tuple[str, ...], part: str) -> None:
        """Lock hosts for a part of the work."""
        self._work("lock_nodes", "Lock the nodes", hosts, holder=holder(self._journal, part).to_json())

    def release(self) -> None:
        """Unlock all nodes."""
        self._work("unlock_nodes", "Unlock the nodes", self._inventory.names, run=self._journal.run)


class Person:
    """The person who looks after a rebuild.

    + ask: asks a question and returns True for yes; None if nobody is there to answer
    + note: shows a line that is not worth remembering
    + keys: host keys that were confirmed beforehand
    + options: where the inventory is, for commands that the person is to type
    """

    def __init__(
        self,
        hooks: Hooks,
        ask: Callable[[str], bool] | None,
        note: Callable[[str], None],
        keys: Sequence[str] = (),
        options: str = "",
    ) -> None:
        self._hooks = hooks
        self._ask = ask
        self._note = note
        self._keys = tuple(keys)
        self._options = options

    def notify(self, text: str) -> None:
        """Tell a person who is not looking."""
        if trouble := self._hooks.notify(text):
            self._note(f"Nobody was told: {trouble}")

    def confirm(self, host: InventoryHost, key: HostKey) -> None:
        """Ask whether a host key is the right one. Raise HOST_KEY_UNCONFIRMED unless the person says so."""
        if any(confirmed(key, text) for text in self._keys):
            return
        said = f"{host.name} shows the new host key {key.fingerprint} ({key.kind})"
        if self._ask:
            self.notify(f"{said}: somebody has to confirm it")
            if self._ask(f"{said}. Is that what its own screen shows?"):
                return
        raise Gb10Error("HOST_KEY_UNCONFIRMED", said, host=host.name)

    def command(self, command: str, *arguments: str) -> str:
        """The gb10 command that a person is to type: "gb10 backup -i lab/inventory.py spark-2"."""
        return " ".join((f"gb10 {command}{self._options}", *arguments))


@dataclass(frozen=True)
class Tools:
    """What a rebuild works with."""

    inventory: Inventory
    sight: Sight
    journal: Journal
    report: Report
    work: Work
    locks: NodeLocks
    person: Person
    hooks: Hooks
    poll_seconds: float = 2.0
