"""Facts that several operations of a run ask for: read once, until something changes.

pyinfra (3.10) keeps no facts: operations that find nothing to do would ask a node the same again and again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from pyinfra.api import FactBase, Host, State
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.context import host, state

from gb10.facts.reading.launcher import SectionsFact, Together

KEPT_SECONDS = 60.0  # a person may read the plan for longer before the run begins


@dataclass
class Readings:
    """What was read in a run since something changed last."""

    values: dict[tuple[Any, ...], Any] = field(default_factory=dict)  # by host and question
    since: float = 0.0
    executed: int = 0  # operations that had executed commands by then, on all hosts
    changing: int = 0  # commands of ours that run at present


_readings: WeakKeyDictionary[State, Readings] = WeakKeyDictionary()


def read_once(where: Host, fact: type[FactBase[Any]], **arguments: Any) -> Any:
    """Return a fact of a host: from an earlier reading, if no operation has executed a command since."""
    values = _values()
    asked = _question(where, fact, arguments)
    if values is not None and asked in values:
        return values[asked]
    value = where.get_fact(fact, **arguments)
    # The node may have changed while it was read.
    if values is not None and values is _values() and where not in state.failed_hosts:
        values[asked] = value
    return value


def read_ahead(facts: Mapping[type[SectionsFact[Any]], list[dict[str, Any]]]) -> None:
    """Given facts and their arguments, read them of this host in one round trip, for operations that will ask.

    An operation that asks for a fact that could not be read reads it again, and reports why it cannot.
    """
    where = host.inventory.get_host(host.name)
    wanted = [(fact, arguments) for fact, calls in facts.items() for arguments in calls]
    values = _values()
    found = where.get_fact(Together, facts=wanted, _ignore_errors=True)
    if values is not None and values is _values():
        values.update((_question(where, *wanted[place]), value) for place, value in (found or {}).items())


@contextmanager
def changing() -> Iterator[None]:
    """Forget what was read, and keep nothing that is read while a command runs."""
    readings = _ours()
    readings.changing += 1
    try:
        yield
    finally:
        readings.changing -= 1
        readings.values = {}


def _ours() -> Readings:
    return _readings.setdefault(host.state, Readings())


def _values() -> dict[tuple[Any, ...], Any] | None:
    """Return the readings that hold, or None while a command runs."""
    readings = _ours()
    executed = sum(one.operation_meta.executed for ops in host.state.ops.values() for one in ops.values())
    if executed != readings.executed or time.monotonic() > readings.since + KEPT_SECONDS:
        readings.executed, readings.since, readings.values = executed, time.monotonic(), {}
    return None if readings.changing else readings.values


def _question(where: Host, fact: type[FactBase[Any]], arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes two readings the same: the host, the fact and its arguments, and as which user it is read."""
    given: dict[str, Any] = {**dict(where.current_op_global_arguments or {}), **arguments}
    effective, _ = pop_global_arguments(host.state, where, given)
    user = tuple(repr(effective.get(key)) for key in CONNECTOR_ARGUMENT_KEYS)
    own = sorted((key, repr(value)) for key, value in arguments.items() if key not in effective)
    return where.name, fact, tuple(own), user
