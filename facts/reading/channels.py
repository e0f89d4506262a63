"""A command on a node over pyinfra's own SSH connection, as bytes: limited in time and size."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from paramiko import Channel, SSHException
from pyinfra.api import Host
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.ssh import SSHConnector

from gb10.facts.reading.requests import FloodError

CHUNK = 1 << 18
WINDOW = 16 << 20
LINE_BYTES = 128 << 20  # of one line: an answer is one
NOISE_BYTES = 1 << 20  # that a login shell may print before a stream
END_SECONDS = 5.0  # for a program to end that no longer reads


@contextmanager
def opened(node: Host, line: str, connector: BaseConnector | None = None) -> Iterator[Channel]:
    """Run a command line on a node. At the end of the block it loses its connection.

    + connector: another connection than the node's own

    Raise ConnectionError if the node is not connected by SSH, SSHException if the connection breaks.
    """
    connector = connector or node.connector
    client = connector.client if isinstance(connector, SSHConnector) else None
    transport = client.get_transport() if client else None
    if transport is None:
        raise ConnectionError(f"{node.name} is not connected by SSH")
    channel = transport.open_session(window_size=WINDOW, max_packet_size=1 << 16)
    try:
        channel.exec_command(line)
        yield channel
    finally:
        channel.close()


def exchange(
    channel: Channel, give: Iterable[bytes], on_line: Callable[[str], None], bound: int, seconds: float
) -> int:
    """Send input, read every line of both outputs, return the exit status.

    + on_line: called with each line
    + bound: most bytes that the node may send
    + seconds: time limit

    Raise FloodError for more bytes, TimeoutError for a node that takes longer, ConnectionError for a lost connection,
    and what `give` and `on_line` raise.
    """
    lines = _Lines(on_line, bound)
    other_lines = _Lines(on_line, bound, lines.used)
    errors = _Reader(lambda: _read(channel.recv_stderr, other_lines.take))
    deadline = _deadline(channel, seconds)
    _send(channel, give)
    _read(channel.recv, lines.take, channel, deadline)
    lines.end()
    errors.end(deadline)
    return _status(channel, deadline)


def stream(
    channel: Channel,
    mark: str,
    give: Iterable[bytes],
    take: Callable[[bytes], object],
    on_line: Callable[[str], None],
    seconds: float,
    silence: float | None = None,
) -> int:
    """Send input, read the stream of a program and the lines beside it, return the exit status.

    + mark: of the launch
    + take: called with each part of the stream
    + silence: seconds without a byte after which the node counts as dead

    Raise as `exchange` does, and EOFError for a stream that ends early.
    """
    lines = _Lines(on_line, LINE_BYTES)
    errors = _Reader(lambda: _read(channel.recv_stderr, lines.take))
    chunks = _Chunks(mark, take)
    deadline = _deadline(channel, seconds)
    channel.settimeout(silence or seconds)
    _send(channel, give)
    _read(channel.recv, chunks.take, channel, None if silence else deadline)
    errors.end(deadline)
    lines.end()
    status = _status(channel, deadline)
    if status == 0 and not chunks.complete:
        raise EOFError("the stream ended early")
    return status


class _Lines:
    """Splits bytes into lines. Two of them share one bound if they share `used`."""

    def __init__(self, on_line: Callable[[str], None], bound: int, used: list[int] | None = None) -> None:
        self._on_line = on_line
        self._bound = bound
        self.used = used if used is not None else [0]
        self._rest = bytearray()

    def take(self, data: bytes) -> None:
        self.used[0] += len(data)
        if self.used[0] > self._bound:
            raise FloodError(f"it sends more than {self._bound} bytes")
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._rest += line
            self._on_line(self._rest.decode(errors="replace"))
            self._rest.clear()
        self._rest += rest

    def end(self) -> None:
        if self._rest:
            self._on_line(self._rest.decode(errors="replace"))
            self._rest.clear()


class _Chunks:
    """Decodes a stream of chunks: each follows its length, an empty one ends the stream."""

    def __init__(self, mark: str, take: Callable[[bytes], object]) -> None:
        self._mark = f"{mark}\n".encode()
        self._take = take
        self._begun = False
        self._head = bytearray()
        self._left = 0
        self.complete = False

    def take(self, data: bytes) -> None:
        if not self._begun:
            self._head += data
            at = self._head.find(self._mark)
            if at < 0:
                if len(self._head) > NOISE_BYTES:
                    raise FloodError(f"it sends more than {NOISE_BYTES} bytes before its stream")
                return
            data = bytes(self._head[at + len(self._mark) :])
            self._head.clear()
            self._begun = True
        view = memoryview(data)
        while view and not self.complete:
            if self._left:
                part = view[: self._left]
                self._take(bytes(part))
                self._left -= len(part)
                view = view[len(part) :]
            else:
                missing = 4 - len(self._head)
                self._head += view[:missing]
                view = view[missing:]
                if len(self._head) == 4:
                    (self._left,) = struct.unpack("!I", self._head)
                    self._head.clear()
                    self.complete = self._left == 0


def _read(
    receive: Callable[[int], bytes],
    take: Callable[[bytes], None],
    channel: Channel | None = None,
    deadline: float | None = None,
) -> None:
    while data := receive(CHUNK):
        take(data)
        if channel and deadline:
            channel.settimeout(max(0.0, deadline - time.monotonic()))


def _deadline(channel: Channel, seconds: float) -> float:
    channel.settimeout(seconds)
    return time.monotonic() + seconds


def _send(channel: Channel, give: Iterable[bytes]) -> None:
    """Send all data. A program that ends earlier is no error here: its own answer explains more than a broken pipe."""
    try:
        for data in give:
            channel.sendall(data)
    except OSError:
        if not _ended_soon(channel):
            raise
        return
    channel.shutdown_write()


def _ended_soon(channel: Channel) -> bool:
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and not channel.exit_status_ready():
        time.sleep(0.05)
    return channel.exit_status_ready()


class _Reader(threading.Thread):
    """A thread that does some work; `end` raises its error."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # raised by `end`
            self._error = error

    def end(self, deadline: float) -> None:
        self.join(max(0.0, deadline - time.monotonic()))
        if self._error and not isinstance(self._error, TimeoutError):
            raise self._error


def _status(channel: Channel, deadline: float) -> int:
    if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
        raise TimeoutError("the program did not end")
    status = channel.recv_exit_status()
    if status == -1:
        raise SSHException("the connection broke")
    return status
