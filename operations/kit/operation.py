"""Operations of ours: how they read facts, and how they refuse with a code of gb10.controller.errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

from pyinfra.api import FactBase, FileUploadCommand, FunctionCommand, Host, State, StringCommand
from pyinfra.api import operation as pyinfra_operation
from pyinfra.api.exceptions import DeployError
from pyinfra.api.operation import OperationMeta, PyinfraOperation
from pyinfra.context import host, state

from gb10.facts.reading.reports import Refused, report
from gb10.operations.kit.reading import changing, read_once
from gb10.operations.kit.reports import Foreseen
from gb10.operations.kit.waiting import wait_until
from gb10.programs.answer import RefusedError

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")
Command = StringCommand | FunctionCommand | FileUploadCommand
Commands = Generator[Command, None, None]


class RefusedDeploy(DeployError):  # noqa: N818 - it is a refusal
    """A deploy that cannot begin: an error code and the reason. It ends the run before anything changes."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"gb10: {code}: {reason}")
        self.code, self.reason = code, reason


class UnreadFactError(Exception):
    """A fact of this host could not be read: nothing may be concluded from it, least of all that a thing is absent."""


def operation(
    is_idempotent: bool = True,
) -> Callable[[Callable[Arguments, Commands]], PyinfraOperation[Arguments]]:
    """Make an operation of a function, as pyinfra's decorator does.

    If it raises RefusedError or UnreadFactError, it fails on this host alone.
    """

    def declare(function: Callable[Arguments, Commands]) -> PyinfraOperation[Arguments]:
        @pyinfra_operation(is_idempotent=is_idempotent)
        @functools.wraps(function)
        def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Commands:
            try:
                commands = function(*args, **kwargs)
                for first in commands:
                    with changing():  # what follows a command looks at what it did
                        yield first
                        yield from commands
            except UnreadFactError as error:
                yield from refuse("FACT_UNREADABLE", f"{host.name}: {error} could not be read: see the lines above")
            except RefusedError as error:
                yield from refuse(error.code, error.reason)

        return guarded

    return declare


def known(fact: type[FactBase[Value]], **arguments: Any) -> Value:
    """Return a fact of this host. Raise UnreadFactError if it could not be read."""
    value: Value = read_once(host.inventory.get_host(host.name), fact, **arguments)
    if host in state.failed_hosts:
        raise UnreadFactError(fact.__name__)
    return value


def await_condition(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition on facts holds, read anew each time. Return False if the time is over before."""
    with changing():
        return wait_until(condition, bool, seconds=seconds)


def changes(earlier: OperationMeta) -> bool:
    """Return True if an earlier operation of this run changed something, or in a dry run would."""
    return bool(earlier.did_change() if state.is_executing else earlier.will_change)


def refuse(code: str, message: str) -> Generator[FunctionCommand, None, None]:
    """Fail the operation on this host alone. A dry run reports what would be refused, and goes on."""
    if state.is_executing:
        yield FunctionCommand(_refuse, (code, message), {})
    else:
        report(host, Foreseen(code, " ".join(message.split())))


def _refuse(state: State, host: Host, code: str, message: str) -> bool:
    say(host, code, message)
    return False


def say(where: Host, code: str, message: str) -> None:
    """Report a refusal for one host."""
    report(where, Refused(code, " ".join(message.split())))


def call(function: Callable[..., object], *args: Any, **kwargs: Any) -> FunctionCommand:
    """Return the command that calls a function, and fails if the function raises RefusedError."""
    return FunctionCommand(_call, (function, args, kwargs), {})


def _call(state: State, host: Host, function: Callable[..., object], args: Any, kwargs: Any) -> bool:
    try:
        function(*args, **kwargs)
    except RefusedError as error:
        say(host, error.code, error.reason)
        return False
    return True
