"""gb10 as it is, but loaded before: `python warm.py gb10` becomes a run of it as often as asked.

Loading gb10, and pyinfra for it, takes most of the time of a command, for each of some hundred of them. So they are
forked from a process that has gb10 loaded, and each gets a fork server (gb10.controller.run.fork_server) that is itself
forked, from the one of the tests. It is the command's own all the same, and ends with it.
"""

from __future__ import annotations

import functools
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gb10.cli import main
from gb10.cli.app import COMMANDS
from gb10.controller.run.child import Child, ForkServer
from gb10.controller.run.fork_server import end_with, serve

HERE = Path(__file__).parent


class Gb10Server(ForkServer):
    """Our end of this file."""

    # Its runs keep its command line, by which they are known for what they are.
    command = (sys.executable, __file__, "gb10")
    _ours = None


class GivenServer(ForkServer):
    """Our end of a fork server that somebody else has started, and that listens on a socket."""

    def __init__(self, path: str) -> None:
        self._control = socket.socket(socket.AF_UNIX)
        self._control.connect(path)
        self._process = self  # type: ignore[assignment] # it is asked for one thing: whether it has ended

    def poll(self) -> None:
        return None


def load() -> None:
    """Have both loaded. By the main thread: what a thread has started ends with it."""
    ForkServer.ours()
    Gb10Server.ours()


@contextmanager
def gb10(arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> Iterator[Child]:
    """A gb10 command while the block runs."""
    with (
        tempfile.TemporaryDirectory() as sockets,
        Child("forked_fork_server", [path := f"{sockets}/fork"], environment, HERE) as server,
    ):
        next(server.lines())  # it listens
        with Child("gb10", [path, *arguments], environment, folder, Gb10Server) as command:
            yield command


def _command(asked: Mapping[str, Any]) -> None:
    path, *arguments = asked["arguments"]
    ForkServer._ours = GivenServer(path)
    sys.argv = ["gb10", *arguments]
    main()


if __name__ == "__main__":
    for name in COMMANDS:
        main.get_command(click.Context(main), name)
    if (asked := serve()) is not None:
        end_with(functools.partial(_command, asked))
