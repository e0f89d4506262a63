"""What is heard of a run while it goes on."""

from __future__ import annotations

from collections.abc import Iterable

from gb10.controller.errors import Gb10Error
from gb10.controller.run.messages import (
    Aborted,
    ConnectFailed,
    Event,
    FactFailed,
    Failure,
    HostFailed,
    OperationEnded,
    Ready,
    Reported,
)
from gb10.controller.run.results import OperationResult
from gb10.operations.kit.reports import Diff, Foreseen


class Tally:
    """Keeps what counts for the result of a run on these hosts."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(hosts)
        self.operations: list[OperationResult] = []
        self.errors: list[Gb10Error] = []
        self.foreseen: list[Gb10Error] = []
        self.ready: set[str] = set()
        self.diff: list[str] = []
        self.output: dict[str, tuple[str, ...]] = {}

    def hear(self, event: Event) -> None:
        """Take in the next event."""
        match event:
            case Ready(host):
                self.ready.add(host)
            case OperationEnded(result):
                self.operations.append(result)
            case HostFailed(host, failures, output) | FactFailed(host, _, failures, output):
                self.output[host] = output
                self._add(*failures)
            case ConnectFailed(_, failure) | Aborted(Failure() as failure):
                self._add(failure)
            case Reported(host, Foreseen(code, text)):
                self.foreseen.append(Gb10Error.reported(code, text, host=host))
            case Reported(host, Diff() as diff):
                self.diff += [f"[{host}] {diff.title}", *diff.lines]

    def check_hosts(self) -> None:
        """Add an error for each host that was left out without a word."""
        if not self.errors:
            self.errors += [Gb10Error("NOT_RUN", host=host) for host in self._hosts if host not in self.ready]

    def _add(self, *failures: Failure) -> None:
        for error in (failure.error() for failure in failures):
            if (str(error), error.host) not in ((str(known), known.host) for known in self.errors):
                self.errors.append(error)
