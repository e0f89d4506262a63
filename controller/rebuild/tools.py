"""What a rebuild works with: the nodes as they are seen, the journal, and the ways to change and to ask something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gb10.controller.cluster.sight import Sight
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.rebuild.arrival import HostKey
from gb10.controller.rebuild.steps import Report
from gb10.controller.run.results import RunResult
from gb10.controller.run.runner import Runner


class Work(Protocol):
    """Runs a deploy on some hosts and shows how it goes. Raises the error that names the cause."""

    def __call__(
        self, deploy: str, title: str, hosts: tuple[str, ...], /, *, copies: bool = False, **kwargs: Any
    ) -> RunResult: ...


@dataclass
class Tools:
    """What a rebuild works with. `confirm` asks the person whether a host key is the right one."""

    inventory: Inventory
    sight: Sight
    journal: Journal
    report: Report
    runner: Callable[..., Runner]
    work: Work
    lock: Callable[[tuple[str, ...], str], None]  # on the nodes: hosts, and the part of the work
    confirm: Callable[[InventoryHost, HostKey], None]
    notify: Callable[[str], None]
    options: str = ""  # where the inventory is, for commands that a person is to type
    poll_seconds: float = 2.0

    def gb10(self, command: str, *arguments: str) -> str:
        """The gb10 command that a person is to type: "gb10 backup -i lab/inventory.py spark-2"."""
        return " ".join((f"gb10 {command}{self.options}", *arguments))
