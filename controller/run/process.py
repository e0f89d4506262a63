"""The one process of a gb10 command that has pyinfra: `python -P -m gb10.controller.run.process PARENT IN OUT`.

It reads requests from one pipe and writes events and results to another (see messages.py; client.py is the other end).
It ends with its parent, if it needs too much memory, and on SIGINT after it has ended its commands on the nodes.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before anything else, as pyinfra's own command does

import ctypes  # noqa: E402
import gc  # noqa: E402
import io  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

import click  # noqa: E402
import gevent.event  # noqa: E402
import pyinfra  # noqa: E402
from gevent.os import make_nonblocking, nb_read  # noqa: E402
from pyinfra.api.output import set_echo  # noqa: E402

pyinfra.is_cli = True  # operations come in the order of the lines that call them, on all hosts

from gb10.controller.run import requests  # noqa: E402
from gb10.controller.run.messages import (  # noqa: E402
    HEADER,
    Alive,
    Event,
    GetFacts,
    Interrupted,
    LoadInventory,
    Logged,
    Request,
    Result,
    RunDeploy,
    dumps,
    loads,
)
from gb10.facts.reading.printable import printable  # noqa: E402

MEMORY_BYTES = 4 << 30
OUT_OF_MEMORY = 71  # exit status
ALIVE_SECONDS = 5.0
END_SECONDS = 6.0  # for commands on the nodes to end
PENDING_SECONDS = 0.001  # for the event loop to handle a SIGINT that came before the result
PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Pipe:
    """Our ends of the two pipes."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        make_nonblocking(reading)

    def receive(self) -> Request | None:
        """Wait for the next request; None if the pipe is closed."""
        header = self._read(HEADER.size)
        request: Request | None = loads(self._read(*HEADER.unpack(header))) if header else None
        return request

    def send(self, message: Event | Result) -> None:
        """Send a message completely before any other greenlet runs."""
        rest = memoryview(dumps(message))
        while rest:
            rest = rest[os.write(self._writing, rest) :]

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (data := nb_read(self._reading, size - len(found))):
            found += data
        return found


class Records(logging.Handler):
    """Send the log records of pyinfra."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())

    def say(self, message: object = "", **_: Any) -> None:
        """Send a message line by line. A message about a host begins with the host's prefix."""
        text = printable(click.unstyle(str(message)))
        prefixes = {click.unstyle(host.print_prefix): host.name for host in requests.hosts()}
        prefix = next((prefix for prefix in prefixes if text.startswith(prefix)), "")
        for line in text.removesuffix("\n").split("\n"):
            self._pipe.send(Logged(line.removeprefix(prefix).rstrip(), prefixes.get(prefix)))


class Printed(io.TextIOBase):
    """Standard output and error of this process, such as of an inventory, as lines of the log."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self._records = records
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._records.say(line)
        return len(text)


class Server:
    """Serves one request after the other."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._work = gevent.Greenlet()
        self._calm = gevent.event.Event()  # unset during an interrupt
        self._calm.set()

    def serve(self) -> None:
        """Serve requests until the pipe is closed."""
        gevent.signal_handler(signal.SIGINT, self.interrupt)
        while request := self._pipe.receive():
            alive = gevent.spawn(self._beat)
            self._work = gevent.spawn(self._served, request)
            result = self._work.get()
            gevent.sleep(PENDING_SECONDS)
            self._calm.wait()  # after an interrupt there is no result
            alive.kill()
            self._pipe.send(result)

    def interrupt(self) -> NoReturn:
        """Start nothing more, end the commands on the nodes, and exit."""
        self._calm.clear()
        requests.abandon(self._work)
        with gevent.Timeout(END_SECONDS, False):
            requests.end_commands()
        self._pipe.send(Interrupted())
        os._exit(0)

    def _beat(self) -> None:
        while True:
            gevent.sleep(ALIVE_SECONDS)
            self._pipe.send(Alive())

    def _served(self, request: Request) -> Result:
        try:
            match request:
                case LoadInventory():
                    return requests.load_inventory(request)
                case RunDeploy():
                    return requests.run_deploy(request, self._pipe.send)
                case GetFacts():
                    return requests.get_facts(request, self._pipe.send)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


def end_without_memory(context: object, kind: Any, value: object, trace: object) -> None:
    """End this process if a greenlet ran out of memory: its output would silently be missing."""
    if isinstance(kind, type) and issubclass(kind, MemoryError):
        os._exit(OUT_OF_MEMORY)
    print_exception(context, kind, value, trace)


print_exception = gevent.get_hub().print_exception


def main(parent: int, reading: int, writing: int) -> None:
    """Run the process until the pipe is closed."""
    die_with_parent(parent)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    pipe = Pipe(reading, writing)
    records = Records(pipe)
    log = logging.getLogger("pyinfra")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(records)
    set_echo(records.say)
    sys.stdout = sys.stderr = Printed(records)
    sys.dont_write_bytecode = True  # beside an inventory
    sys.path.append(os.getcwd())  # as pyinfra's own command does: an inventory may have modules beside it
    warnings.simplefilter("ignore")
    gevent.get_hub().print_exception = end_without_memory
    gc.freeze()
    Server(pipe).serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
