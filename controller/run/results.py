"""Results of runs and of facts, and the record of a run from which they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error, decisive
from gb10.controller.run.messages import (
    Aborted,
    ConnectFailed,
    Event,
    FactFailed,
    FactQuery,
    Failure,
    HostFailed,
    OperationEnded,
    OperationResult,
    Ready,
    Reported,
    Value,
)
from gb10.operations.kit.reports import Diff, Foreseen


@dataclass(frozen=True)
class RunResult:
    """A run of pyinfra, complete or not. `hosts` should have taken part; `errors` are in order of time."""

    target: str
    dry: bool
    hosts: tuple[str, ...]
    operations: tuple[OperationResult, ...] = ()
    errors: tuple[Gb10Error, ...] = ()
    foreseen: tuple[Gb10Error, ...] = ()  # in a dry run: what the real run would refuse
    diff: tuple[str, ...] = ()  # of files, with --diff
    output: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the last lines of hosts that failed
    seconds: float = 0.0
    log: Path | None = None

    @property
    def ok(self) -> bool:
        return not self.errors

    @property
    def interrupted(self) -> bool:
        return any(error.code == "INTERRUPTED" for error in self.errors)

    @property
    def changed(self) -> tuple[OperationResult, ...]:
        """The operations that changed something, or would."""
        return tuple(operation for operation in self.operations if operation.changed)

    @property
    def error(self) -> Gb10Error | None:
        """The error that names the cause and so the exit status."""
        return decisive(self.errors)

    def check(self) -> None:
        """Raise the error that names the cause, if there is one."""
        if self.error:
            raise self.error

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "dry": self.dry,
            "ok": self.ok,
            "hosts": list(self.hosts),
            "changed": [operation.name for operation in self.changed],
            "operations": [operation.to_json() for operation in self.operations],
            "errors": [error.to_json() for error in self.errors],
            "foreseen": [error.to_json() for error in self.foreseen],
            "diff": list(self.diff),
            "seconds": round(self.seconds, 3),
            "log": str(self.log) if self.log else None,
        }


class RunRecord:
    """Collects from events what the result of a run on these hosts needs."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(hosts)
        self.operations: list[OperationResult] = []
        self.errors: list[Gb10Error] = []
        self.foreseen: list[Gb10Error] = []
        self.ready: set[str] = set()
        self.diff: list[str] = []
        self.output: dict[str, tuple[str, ...]] = {}

    def hear(self, event: Event) -> None:
        """Record the next event."""
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
        """Add an error for each host that pyinfra left out without an error."""
        if not self.errors:
            self.errors += [Gb10Error("NOT_RUN", host=host) for host in self._hosts if host not in self.ready]

    def _add(self, *failures: Failure) -> None:
        for error in (failure.error() for failure in failures):
            if (str(error), error.host) not in ((str(known), known.host) for known in self.errors):
                self.errors.append(error)


@dataclass(frozen=True)
class FactsResult:
    """Facts by query and host. A host whose fact could not be read is missing; None is a value, and means absent."""

    values: Mapping[FactQuery[Any], Mapping[str, Any]]
    hosts: tuple[str, ...]
    errors: tuple[Gb10Error, ...] = ()

    def of(self, host: str, query: FactQuery[Value]) -> Value | None:
        """Return a fact of a host; None also if it could not be read."""
        return self.values.get(query, {}).get(host)

    def has(self, host: str, query: FactQuery[Any]) -> bool:
        """Return True if the fact of the host could be read."""
        return host in self.values.get(query, {})
