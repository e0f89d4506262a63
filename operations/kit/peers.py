"""Facts, commands and programs on any node, from within an operation of this one.

A fact on another host inherits nothing from this operation, not even its sudo: that is passed on here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import gevent
from paramiko import SSHException
from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api.exceptions import ConnectError, FactProcessError
from pyinfra.connectors.util import CommandOutput
from pyinfra.context import ctx_host, ctx_state, host, state

from gb10.facts.reading import channels
from gb10.facts.reading.launcher import Launch, equip, shell_line
from gb10.facts.reading.reports import Refused, report
from gb10.facts.reading.requests import KILL_SECONDS, FloodError, FrameError
from gb10.operations.kit.operation import UnreadFactError
from gb10.operations.kit.reading import read_once
from gb10.operations.kit.reports import Note
from gb10.programs.answer import RefusedError

Value = TypeVar("Value")
BROKEN = (OSError, EOFError, SSHException)  # what a broken connection raises
FACT_CHARACTERS = 500  # of what a failed fact printed
LINE_CHARACTERS = 300  # of what a failed command printed


def has_sudo() -> bool:
    """Return True if the current operation runs with sudo."""
    arguments = host.current_op_global_arguments
    return bool(arguments and arguments.get("_sudo"))


def this_node() -> Host:
    """Return the node of the current operation itself: pyinfra's `host` is another one in another greenlet."""
    return host.inventory.get_host(host.name)


def reached(peer: Host) -> bool:
    """Connect to another host, unless that is done; return whether it answers."""
    try:
        if not peer.connected:
            peer.connect(reason=f"for {host.name}", raise_exceptions=True)
    except ConnectError:
        return False
    return True


# Facts ---------------------------------------------------------------------------------------------------------------


def peer_fact(peer: Host, fact: type[FactBase[Value]], **arguments: Any) -> Value | None:
    """Return a fact of another host, or None if it cannot be reached."""
    if not reached(peer):
        return None
    value: Value = read_once(peer, fact, **arguments, _sudo=has_sudo())
    return value


def read_fact(peer: Host, fact: type[FactBase[Any]], **arguments: Any) -> Any:
    """Return a fact of any node; None if it cannot be reached. Raise UnreadFactError if it could not be read."""
    value = peer_fact(peer, fact, **arguments)
    if peer in state.failed_hosts:
        raise UnreadFactError(fact.__name__)
    return value


def read_facts(*wanted: tuple[Host, Any, Mapping[str, Any]]) -> list[Any]:
    """Read facts of several nodes at the same time; None for each whose node cannot be reached.

    Raise UnreadFactError if one could not be read.
    """
    nodes = {found.name: reached(found) for found, _, _ in wanted}
    sudo = has_sudo()
    runs = [
        gevent.spawn(_run, found, fact().command(**arguments), sudo) if nodes[found.name] else None
        for found, fact, arguments in wanted
    ]
    gevent.joinall([run for run in runs if run], raise_error=True)
    return [
        None if run is None else _fact_value(found, fact, *run.value)
        for (found, fact, _), run in zip(wanted, runs, strict=True)
    ]


def _fact_value(peer: Host, fact: type[FactBase[Value]], done: bool, output: CommandOutput) -> Value:
    if not done:
        report(host, Note(f"{peer.name}: {output.output[-FACT_CHARACTERS:]}"))
        raise UnreadFactError(fact.__name__)
    try:
        return fact().process(output.stdout_lines)
    except FactProcessError as error:
        report(host, Note(f"{peer.name}: {error}"))
        raise UnreadFactError(fact.__name__) from error


# Commands and programs -----------------------------------------------------------------------------------------------


def _run(
    peer: Host, command: StringCommand, sudo: bool, print_output: bool = False, print_input: bool = False
) -> tuple[bool, CommandOutput]:
    equip(peer)
    arguments = {"_sudo": sudo, **command.connector_arguments}
    return peer.run_shell_command(command, print_output=print_output, print_input=print_input, **arguments)


def _broken(peer: Host, error: Exception) -> str:
    return f"the connection to {peer.name} broke: {error or type(error).__name__}"


def peer_run(peer: Host, command: StringCommand) -> tuple[bool, str]:
    """Run a command on any host; return whether it succeeded, and what it printed.

    A script that succeeded has printed its answer alone.
    """
    if not reached(peer):
        return False, f"{peer.name} cannot be reached"
    try:
        done, output = _run(peer, command, has_sudo(), state.print_output, state.print_input)
    except BROKEN as error:
        return False, _broken(peer, error)
    return done, printed(command, done, output)


def printed(command: StringCommand, done: bool, output: CommandOutput) -> str:
    """Return what a command printed: the answer of a script that succeeded, otherwise all there is."""
    answer = json.loads(output.stdout) if done and isinstance(command, Launch) else None
    return answer if isinstance(answer, str) else output.output


def last_words(printed: str, lines: int = 3) -> str:
    """Return the last lines that a command printed as one, cut to what a person can read."""
    kept = [line.strip() for line in printed.splitlines() if line.strip()]
    return "; ".join(kept[-lines:])[-LINE_CHARACTERS:]


def start_run(peer: Host, command: StringCommand) -> gevent.Greenlet:
    """Run a command on any host as `peer_run` does, but in a greenlet, which would have no context of its own."""
    own_state, own_host = ctx_state.get(), ctx_host.get()

    def run() -> tuple[bool, str]:
        with ctx_state.use(own_state), ctx_host.use(own_host):
            return peer_run(peer, command)

    return gevent.spawn(run)


def ask(peer: Host, launch: Launch, failure: str = "PROGRAM_FAILED") -> Any:
    """Run a program of ours on any node; return its answer.

    + failure: code for a program that ends without an answer

    Raise RefusedError if it refuses or fails: the caller reports that.
    """
    if not reached(peer):
        raise RefusedError("NODE_UNREACHABLE", f"{peer.name} cannot be reached")
    refusals: list[Refused] = []
    launch.refused = refusals.append
    try:
        done, output = _run(peer, launch, has_sudo())
    except BROKEN as error:
        raise RefusedError("NODE_UNREACHABLE", _broken(peer, error)) from error
    if done:
        return json.loads(output.stdout)
    for refusal in refusals:
        raise RefusedError(refusal.code, refusal.text)
    last = last_words(output.stderr, lines=1) or "without a word"
    raise RefusedError(failure, f"{launch.function} on {peer.name} ended: {last}")


# Programs whose input or output is a stream of bytes: it is never held, and in no log --------------------------------


class _CallerError(Exception):
    """What `give` or `take` raised, which is no fault of the connection."""


@contextmanager
def _callers_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _CallerError(error) from error


def run_stream(
    node: Host,
    launch: Launch,
    *,
    give: Iterable[bytes] = (),
    take: Callable[[bytes], object] = lambda data: None,
    silence: float | None = None,
    failed: str = "PROGRAM_FAILED",
) -> Any:
    """Run a launch that streams on a host, as root if this operation is; return its answer.

    + give: what follows the launch on its standard input
    + take: called with each part of its stream
    + silence: seconds without a byte after which the node counts as dead; None: until the launch's time is over
    + failed: code of the refusal for a program that ends without an answer

    Raise RefusedError if it refuses or the connection breaks (NODE_UNREACHABLE), and what `give` and `take` raise.
    """
    if not reached(node):
        raise RefusedError("NODE_UNREACHABLE", f"{node.name} cannot be reached")

    def given() -> Iterator[bytes]:
        yield launch.text.encode()
        with _callers_errors():
            yield from give

    def taken(data: bytes) -> None:
        with _callers_errors():
            take(data)

    answer = launch.answer()
    seconds = launch.seconds + 2 * KILL_SECONDS
    try:
        with channels.opened(node, shell_line(node, launch, {"_sudo": has_sudo()})) as channel:
            status = channels.stream(channel, launch.mark, given(), taken, answer.read_line, seconds, silence)
    except _CallerError as error:
        raise error.args[0] from None
    except (FloodError, FrameError) as error:
        raise RefusedError("NODE_ANSWER", f"{node.name}: {error}") from error
    except BROKEN as error:
        raise RefusedError("NODE_UNREACHABLE", _broken(node, error)) from error
    if answer.refusal:
        raise RefusedError(*answer.refusal)
    if status or not answer.complete:
        raise RefusedError(failed, answer.others[-1] if answer.others else f"it ended with status {status}")
    return answer.value
