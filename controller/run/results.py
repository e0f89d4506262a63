"""What a pyinfra run did, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error, decisive
from gb10.controller.run.asks import Ask, Value


@dataclass(frozen=True)
class OperationResult:
    """One operation of a run.

    In a dry run `changed` are the hosts that would change, `conditional` those where another operation decides.
    """

    name: str
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "changed": list(self.changed),
            "unchanged": list(self.unchanged),
            "failed": list(self.failed),
            "conditional": list(self.conditional),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class RunResult:
    """A run of pyinfra, complete or not. `hosts` should have taken part; `errors` are in the order of their coming."""

    target: str
    dry: bool
    hosts: tuple[str, ...]
    operations: tuple[OperationResult, ...] = ()
    errors: tuple[Gb10Error, ...] = ()
    foreseen: tuple[Gb10Error, ...] = ()  # what a dry run says that the real run would refuse
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
        """The error that names the cause, and picks the exit status."""
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


@dataclass(frozen=True)
class FactsResult:
    """Facts by ask and host. A host whose fact could not be read is missing; None is a value, and means absent."""

    values: Mapping[Ask[Any], Mapping[str, Any]]
    hosts: tuple[str, ...]
    errors: tuple[Gb10Error, ...] = ()

    def of(self, host: str, ask: Ask[Value]) -> Value | None:
        """Return a fact of a host; None also if it could not be read."""
        return self.values.get(ask, {}).get(host)

    def has(self, host: str, ask: Ask[Any]) -> bool:
        """Return True if the fact of the host could be read."""
        return host in self.values.get(ask, {})
