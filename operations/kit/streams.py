"""Programs of ours on nodes whose input or output is a stream of bytes: never held, and never in a log.

pyinfra's own commands speak text and keep all of it. Here the program, its job and what follows travel on standard
input, what comes back goes on chunk by chunk, and only what the program says on standard error is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from paramiko import Channel, SSHException
from pyinfra.api import Host, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.connectors.util import make_unix_command_for_host
from pyinfra.context import state

from gb10.operations.kit.peers import reached

# Modules come as text, too, under the names by which they import each other.
RUN = (
    "import json,sys,types\n"
    "job=json.loads(sys.stdin.buffer.readline())\n"
    "def add(name):\n"
    " module=sys.modules[name]=types.ModuleType(name)\n"
    " above,_,base=name.rpartition('.')\n"
    " if above:setattr(sys.modules.get(above) or add(above),base,module)\n"
    " return module\n"
    "for name,text in job.pop('modules'):\n"
    " module=add(name)\n"
    " exec(compile(text,name,'exec'),module.__dict__)\n"
    "getattr(module,job.pop('function'))(job)"
)
CHUNK = 1 << 18
WINDOW = 16 << 20


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said on standard error."""

    status: int
    lines: tuple[str, ...]

    @property
    def refusal(self) -> tuple[str, str] | None:
        """The code and reason of the last line that has one."""
        found = next((line for line in reversed(self.lines) if line.startswith("gb10: ")), None)
        if found is None:
            return None
        _, code, reason = found.split(": ", 2)
        return code, reason


class BrokenStreamError(Exception):
    """The connection to a node broke, or never came to be."""


def stream_program(
    node: Host,
    modules: Iterable[str],
    job: Mapping[str, Any],
    *,
    sudo: bool,
    seconds: int,
    silence: int | None = None,
    give: Iterable[bytes] = (),
    take: Callable[[bytes], object] = lambda chunk: None,
) -> Ended:
    """Run the last of some modules of gb10.programs ("archive", "backups.store") on a node, at most so many seconds.

    + job: what its function, named by job["function"], is called with
    + silence: after how many seconds without a byte the node is taken for dead; None: not before its time is over
    + give: what follows on its standard input
    + take: called with what it prints

    What `give` or `take` raise is raised. Raise BrokenStreamError where the connection does not hold.
    """
    channel = _opened(node, sudo, seconds)
    channel.settimeout(silence or seconds)
    try:
        with channel:
            channel.sendall(json.dumps({**job, "modules": [_module(name) for name in modules]}).encode() + b"\n")
            _pour(channel, give)
            while chunk := channel.recv(CHUNK):
                take(chunk)
            said = channel.makefile_stderr("rb").read()
            status = channel.recv_exit_status()
    except (TimeoutError, SSHException, EOFError, ConnectionError) as error:
        raise BrokenStreamError(f"the connection to {node.name} broke: {error or type(error).__name__}") from error
    if status == -1:
        raise BrokenStreamError(f"the connection to {node.name} broke")
    return Ended(status, tuple(said.decode(errors="replace").splitlines()))


def _pour(channel: Channel, give: Iterable[bytes]) -> None:
    """Send all, unless the program has ended before: what it said then tells more than a broken pipe."""
    try:
        for chunk in give:
            channel.sendall(chunk)
    except OSError:
        if not _ended_soon(channel):
            raise
        return
    channel.shutdown_write()


def _ended_soon(channel: Channel) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not channel.exit_status_ready():
        time.sleep(0.05)
    return channel.exit_status_ready()


def _opened(node: Host, sudo: bool, seconds: int) -> Channel:
    if not reached(node):
        raise BrokenStreamError(f"{node.name} cannot be reached")
    client = getattr(node.connector, "client", None)
    transport = client.get_transport() if client else None
    if transport is None:
        raise BrokenStreamError(f"{node.name} is not connected by SSH")
    run = StringCommand(f"timeout --kill-after=15 {seconds} python3 -c", QuoteString(RUN))
    command = make_unix_command_for_host(state, node, run, _sudo=sudo).get_raw_value()
    try:
        channel: Channel = transport.open_session(window_size=WINDOW, max_packet_size=1 << 16)
        channel.exec_command(command)
    except (SSHException, EOFError, OSError) as error:
        raise BrokenStreamError(f"the connection to {node.name} broke: {error}") from error
    return channel


def _module(name: str) -> tuple[str, str]:
    """The published name of a module, and its text."""
    place = f"{name.replace('.', '/')}.py"
    return f"gb10.programs.{name}", files("gb10.programs").joinpath(place).read_text()
