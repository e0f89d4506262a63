"""Programs on nodes whose input or output is a stream of bytes: never held, and never in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from paramiko import SSHException
from pyinfra.api import Host

from gb10.facts.reading import channels
from gb10.facts.reading.launcher import KILL_SECONDS, Launch, shell_line
from gb10.facts.reading.requests import FloodError, FrameError
from gb10.operations.kit.peers import has_sudo, reached
from gb10.programs.answer import RefusedError


class BrokenStreamError(Exception):
    """The connection to a node broke, or never came to be."""


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

    Raise RefusedError if it refuses, BrokenStreamError if the connection does not hold, and what `give` and `take`
    raise.
    """
    if not reached(node):
        raise BrokenStreamError(f"{node.name} cannot be reached")
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
        raise BrokenStreamError(f"the connection to {node.name} broke: {error or type(error).__name__}") from error
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
