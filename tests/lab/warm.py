"""gb10 as it is, but with a fork server whose pyinfra was loaded before: `python warm.py DESCRIPTOR ARGUMENTS...`.

Loading pyinfra takes as long as half of what gb10 does here, for each of some hundred commands. So each gets a fork
server (gb10.controller.fork_server) that is itself forked, from the one of the tests. It is the command's own all the
same, and ends with it.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gb10.controller import child as children
from gb10.controller.child import Child

HERE = Path(__file__).parent
START_SECONDS, END_SECONDS = 60, 10


class GivenServer(children._ForkServer):
    """Our end of a fork server that somebody else has started."""

    def __init__(self, descriptor: int) -> None:
        self._control = socket.socket(fileno=descriptor)
        self._process = self  # type: ignore[assignment] # it is asked for one thing: whether it has ended

    def poll(self) -> None:
        return None


@contextmanager
def fork_server() -> Iterator[int]:
    """A fork server for one command while the block runs; yield the descriptor that leads to it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen(1)
        listener.settimeout(START_SECONDS)
        with Child("forked_fork_server", [f"{folder}/socket"], os.environ, HERE) as child:
            with listener.accept()[0] as control:
                yield control.fileno()
            child.stop_after(END_SECONDS)
            child.wait()


if __name__ == "__main__":
    children._ForkServer._ours = GivenServer(int(sys.argv[1]))
    sys.argv = ["gb10", *sys.argv[2:]]
    from gb10.cli import main

    main()
