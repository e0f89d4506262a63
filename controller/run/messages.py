"""Messages between the gb10 command and its pyinfra process: requests one way, events and results the other.

All of it is pickled. The receiving end builds nothing but plain values and our dataclasses (see `loads`).
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from gb10.controller.errors import Gb10Error

Value = TypeVar("Value")
Stage = Literal["connect", "prepare", "facts", "execute", "disconnect"]

HEADER = struct.Struct("!Q")  # the length of the pickle that follows
LARGEST_BYTES = 1 << 29
# Where dataclasses of messages may be defined. No other module is imported.
MODULES = ("gb10.controller.run.messages", "gb10.facts.reading.", "gb10.operations.", "gb10.programs.")
PLAIN = {
    *(("builtins", name) for name in ("set", "frozenset", "complex", "bytearray", "range")),
    *(("datetime", name) for name in ("datetime", "timezone", "timedelta")),
}


# Requests ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadInventory:
    """Load an inventory, without connecting to its hosts."""

    source: str


@dataclass(frozen=True)
class RunDeploy:
    """Run a deploy or an operation, "gb10.deploys.cluster", on some hosts; all if `hosts` is None."""

    source: str
    hosts: tuple[str, ...] | None
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)  # overrides the inventory's
    dry: bool = False
    diff: bool = False
    verbosity: int = 0
    silence_seconds: float = 300.0  # without a sign of life, after which a node is given up


@dataclass(frozen=True)
class FactQuery(Generic[Value]):
    """A fact to read: the path of its class, "gb10.facts.file.SecretFile", and its arguments."""

    fact: str
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)
    key: str = ""  # distinguishes two queries of the same fact

    def with_arguments(self, **arguments: Any) -> FactQuery[Value]:
        """Return the same query with these arguments."""
        key = ", ".join(f"{name}={value!r}" for name, value in sorted(arguments.items()))
        return FactQuery(self.fact, arguments, key)

    def __str__(self) -> str:
        return f"{self.fact} ({self.key})" if self.key else self.fact


@dataclass(frozen=True)
class GetFacts:
    """Read facts of some hosts; of all if `hosts` is None."""

    source: str
    hosts: tuple[str, ...] | None
    queries: tuple[FactQuery[Any], ...]
    verbosity: int = 0
    seconds: float = 600.0  # for one fact of one host
    silence_seconds: float = 45.0  # as above


Request = LoadInventory | RunDeploy | GetFacts


# Events --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A failure: an error code, and a text or the `reason` in the text of the catalogue."""

    code: str
    host: str | None = None
    text: str | None = None
    reason: str | None = None

    def error(self) -> Gb10Error:
        """Return the failure as an error of the catalogue."""
        details = {name: value for name, value in (("host", self.host), ("reason", self.reason)) if value}
        return Gb10Error.reported(self.code, self.text, **details) if self.text else Gb10Error(self.code, **details)


@dataclass(frozen=True)
class StageStarted:
    """The next stage of the run has started."""

    stage: Stage


@dataclass(frozen=True)
class Connected:
    host: str


@dataclass(frozen=True)
class ConnectFailed:
    """The connection to a host failed."""

    host: str
    failure: Failure


@dataclass(frozen=True)
class Ready:
    """The deploy has been prepared for a host, which now takes part in the run."""

    host: str


@dataclass(frozen=True)
class OperationStarted:
    name: str


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
class OperationEnded:
    """How the current operation ended on its hosts."""

    result: OperationResult


@dataclass(frozen=True)
class HostFailed:
    """The current operation failed on a host."""

    host: str
    failures: tuple[Failure, ...]
    output: tuple[str, ...]  # the last lines of the host


@dataclass(frozen=True)
class FactFailed:
    """A fact of a host could not be read; pyinfra goes on with the fact's default."""

    host: str
    fact: str
    failures: tuple[Failure, ...]
    output: tuple[str, ...]


@dataclass(frozen=True)
class Reported:
    """A fact or an operation reported something about a host."""

    host: str
    report: Any


@dataclass(frozen=True)
class Logged:
    """A line of the log, about a host or about the run."""

    text: str
    host: str | None = None

    @property
    def line(self) -> str:
        """The line as in pyinfra's own log."""
        if self.host:
            return f"    [{self.host}] {self.text}"
        return self.text if self.text.startswith("-->") else f"    {self.text}"


@dataclass(frozen=True)
class Aborted:
    """pyinfra gave up the whole run. `failure` is None if failed hosts are the reason."""

    failure: Failure | None


@dataclass(frozen=True)
class Alive:
    """The process is still working on the request."""


Event = (
    StageStarted
    | Connected
    | ConnectFailed
    | Ready
    | OperationStarted
    | OperationEnded
    | HostFailed
    | FactFailed
    | Reported
    | Logged
    | Aborted
    | Alive
)


# Results: each ends a request ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedHost:
    """A host of an inventory: plain data only, and never a password."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class LoadedInventory:
    hosts: tuple[LoadedHost, ...]
    misspelt: tuple[str, ...] = ()  # misspelt names of settings


@dataclass(frozen=True)
class InventoryFailed:
    """Why an inventory cannot be loaded, in one line with its file and line."""

    reason: str


@dataclass(frozen=True)
class RunDone:
    """The end of a run. `plan` is the result of a dry run, or None if it failed before."""

    plan: tuple[OperationResult, ...] | None = None


@dataclass(frozen=True)
class FactValue:
    host: str
    query: FactQuery[Any]
    value: Any


@dataclass(frozen=True)
class FactsDone:
    values: tuple[FactValue, ...]


@dataclass(frozen=True)
class Interrupted:
    """The process was interrupted, and has ended its commands on the nodes."""


Result = LoadedInventory | InventoryFailed | RunDone | FactsDone | Interrupted


# The pipe ------------------------------------------------------------------------------------------------------------


class ForeignObjectError(Exception):
    """A message contains something that is neither a plain value nor one of our dataclasses."""


def dumps(message: Request | Event | Result) -> bytes:
    """Return a message as bytes for the pipe: its length and its pickle."""
    text = pickle.dumps(message)
    return HEADER.pack(len(text)) + text


def loads(text: bytes) -> Any:
    """Return the message of a pickle. Raise ForeignObjectError unless it has only plain values and our dataclasses."""
    return _Unpickler(io.BytesIO(text)).load()


def _is_plain(found: type) -> bool:
    """Return True for a class that only holds values: a dataclass or an enumeration."""
    return is_dataclass(found) or issubclass(found, Enum)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        found = super().find_class(module, name) if module.startswith(MODULES) else None
        if not isinstance(found, type) or found.__module__ != module or not _is_plain(found):
            raise ForeignObjectError(f"{module}.{name}")
        return found
