"""Facts, commands and programs on any node, from within an operation of this one.

A fact on another host inherits nothing from this operation, not even its sudo: that is passed on here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import gevent
from paramiko import SSHException
from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api.exceptions import ConnectError, FactProcessError
from pyinfra.connectors.util import CommandOutput
from pyinfra.context import host, state

from gb10.facts.reading import channels
from gb10.facts.reading.launcher import Launch, equip, shell_line
from gb10.facts.reading.reports import Refused, report
from gb10.facts.reading.requests import KILL_SECONDS, FloodError, FrameError
from gb10.operations.kit.operation import UnreadFactError
from gb10.operations.kit.reports import Note
from gb10.programs.answer import RefusedError

Value = TypeVar("Value")
SAID = 500  # characters of what a failed fact printed


def has_sudo() -> bool:
    """Return True if the current operation runs with sudo."""
    arguments = host.current_op_global_arguments
    return bool(arguments and arguments.get("_sudo"))


def node(name: str) -> Host | None:
    """Return the node of the inventory that has this name, or None."""
    found: Host | None = host.inventory.get_host(name, default=None)
    return found


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


def peer_fact(peer: Host, fact: type[FactBase[Value]], **arguments: Any) -> Value | None:
    """Given another host, return a fact of it, or None where it cannot be reached."""
    if not reached(peer):
        return None
    return peer.get_fact(fact, **arguments, _sudo=has_sudo())


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


def _run(peer: Host, command: StringCommand, sudo: bool) -> tuple[bool, CommandOutput]:
    """Run a command beside others."""
    equip(peer)
    arguments = {"_sudo": sudo, **command.connector_arguments}
    return peer.run_shell_command(command, print_output=False, print_input=False, **arguments)


def _fact_value(peer: Host, fact: type[FactBase[Value]], done: bool, output: CommandOutput) -> Value:
    if not done:
        report(host, Note(f"{peer.name}: {output.output[-SAID:]}"))
        raise UnreadFactError(fact.__name__)
    try:
        return fact().process(output.stdout_lines)
    except FactProcessError as error:
        report(host, Note(f"{peer.name}: {error}"))
        raise UnreadFactError(fact.__name__) from error


def peer_run(peer: Host, command: StringCommand, shown: bool = False) -> tuple[bool, str]:
    """Run a command on another host; return whether it succeeded, and what it printed. `shown` also logs it.

    A script that succeeded has printed its answer alone.
    """
    if not reached(peer):
        return False, f"{peer.name} cannot be reached"
    equip(peer)
    arguments = {"_sudo": has_sudo(), **command.connector_arguments}
    status, output = peer.run_shell_command(
        command, print_output=shown or state.print_output, print_input=state.print_input, **arguments
    )
    return status, printed(command, status, output)


def printed(command: StringCommand, status: bool, output: CommandOutput) -> str:
    """Return what a command printed: the answer of a script that succeeded, otherwise all there is."""
    answer = json.loads(output.stdout) if status and isinstance(command, Launch) else None
    return answer if isinstance(answer, str) else output.output


def ask(peer: Host, launch: Launch, failure: str = "PROGRAM_FAILED") -> Any:
    """Run a program of ours on any node; return its answer.

    + failure: code for a program that ends without an answer

    Raise RefusedError if it refuses or fails: it is for the caller to report that.
    """
    if not reached(peer):
        raise RefusedError("NODE_UNREACHABLE", f"{peer.name} cannot be reached")
    equip(peer)
    refusals: list[Refused] = []
    launch.refused = refusals.append
    done, output = peer.run_shell_command(launch, print_output=False, print_input=False, _sudo=has_sudo())
    if done:
        return json.loads(output.stdout)
    for refusal in refusals:
        raise RefusedError(refusal.code, refusal.text)
    lines = [line for line in output.stderr_lines if line.strip()]
    last = lines[-1] if lines else "without a word"
    raise RefusedError(failure, f"{launch.function} on {peer.name} ended: {last}")


class _OwnError(Exception):
    """What `give` or `take` raised, which is no fault of the connection."""


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
    + silence: after how many seconds without a byte the node is taken for dead; None: not before its time is over
    + failed: code of the refusal for a program that ends without an answer

    Raise RefusedError if it refuses or the connection breaks (NODE_UNREACHABLE), and what `give` and `take` raise.
    """
    if not reached(node):
        raise RefusedError("NODE_UNREACHABLE", f"{node.name} cannot be reached")
    answer = launch.answer()
    seconds = launch.seconds + 2 * KILL_SECONDS
    try:
        with channels.opened(node, shell_line(node, launch, {"_sudo": has_sudo()})) as channel:
            given, taken = _given(launch, give), _taken(take)
            status = channels.stream(channel, launch.mark, given, taken, answer.hear, seconds, silence)
    except _OwnError as error:
        raise error.args[0] from None
    except (FloodError, FrameError) as error:
        raise RefusedError("NODE_ANSWER", f"{node.name}: {error}") from error
    except (OSError, SSHException, EOFError) as error:
        text = f"the connection to {node.name} broke: {error or type(error).__name__}"
        raise RefusedError("NODE_UNREACHABLE", text) from error
    if answer.refusal:
        raise RefusedError(*answer.refusal)
    if status or not answer.complete:
        raise RefusedError(failed, answer.others[-1] if answer.others else f"it ended with status {status}")
    return answer.value


def _given(launch: Launch, give: Iterable[bytes]) -> Iterator[bytes]:
    yield launch.text.encode()
    try:
        yield from give
    except Exception as error:
        raise _OwnError(error) from error


def _taken(take: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def taken(data: bytes) -> None:
        try:
            take(data)
        except Exception as error:
            raise _OwnError(error) from error

    return taken


LONGEST = 300


def last_words(printed: str, lines: int = 3) -> str:
    """Given what a command printed, return its last lines as one, no longer than a person can read."""
    kept = [line.strip() for line in printed.splitlines() if line.strip()]
    return "; ".join(kept[-lines:])[-LONGEST:]


def last_line(printed: str) -> str:
    """Given what a command printed, return its last line that is not empty."""
    return last_words(printed, lines=1) or "it printed nothing"
