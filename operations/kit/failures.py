"""How an operation refuses: with a code of the catalogue of gb10.controller.errors, and what happened."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

from pyinfra.api import FactBase, FunctionCommand, Host, State
from pyinfra.api.exceptions import DeployError
from pyinfra.context import host, state

from gb10.facts.reading.reports import Refused, report
from gb10.operations.kit.reports import Foreseen
from gb10.programs.answer import RefusedError

Arguments = ParamSpec("Arguments")
Command = TypeVar("Command")
Value = TypeVar("Value")


class RefusedDeploy(DeployError):  # noqa: N818 - it is a refusal
    """A deploy that cannot begin: a code of the catalogue, and the reason. It ends the run before anything changes."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"gb10: {code}: {reason}")
        self.code, self.reason = code, reason


class UnreadFactError(Exception):
    """A fact of this host could not be read: nothing may be concluded from it, least of all that a thing is absent."""


def known(fact: type[FactBase[Value]], **arguments: Any) -> Value:
    """Given a fact, return its value for this host. Raise UnreadFactError where it could not be read."""
    value = host.get_fact(fact, **arguments)
    if host in state.failed_hosts:
        raise UnreadFactError(fact.__name__)
    return value


def guarded(
    function: Callable[Arguments, Generator[Command, None, None]],
) -> Callable[Arguments, Generator[Command | FunctionCommand, None, None]]:
    """Fail an operation on this host alone, and before it changes anything, if it refuses or cannot read a fact."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Generator[Command | FunctionCommand, None, None]:
        try:
            yield from function(*args, **kwargs)
        except UnreadFactError as error:
            yield from refuse("FACT_UNREADABLE", f"{host.name}: {error} could not be read: see the lines above")
        except RefusedError as error:
            yield from refuse(error.code, error.reason)

    return wrapped


def say(where: Host, code: str, message: str) -> None:
    """Report a refusal for one host."""
    report(where, Refused(code, " ".join(message.split())))


def refuse(code: str, message: str) -> Generator[FunctionCommand, None, None]:
    """Fail the operation on this host alone. A dry run reports what would be refused, and goes on."""
    if state.is_executing:
        yield FunctionCommand(_refuse, (code, message), {})
    else:
        report(host, Foreseen(code, " ".join(message.split())))


def _refuse(state: State, host: Host, code: str, message: str) -> bool:
    say(host, code, message)
    return False
