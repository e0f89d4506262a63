"""The rails to the peer, and the state of a copy that all threads of the sender share."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from gb10.programs.copying.protocol import encoded, greet

CONNECT_SECONDS = 5
DEAD_SECONDS = 10  # without an acknowledgement a connection is dead
GONE = -1_000_000  # as the number of the last answered beat: the next beat gives the rail up


class CopyState:
    """Failures, bytes on the wire, and a condition that is notified of every change.

    Faults are about single files: the others are still copied.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.fatal: BaseException | None = None
        self.source_faults: list[str] = []
        self.target_faults: list[str] = []
        self.wire = 0  # bytes, including what rsync adds to the content of files

    def fail(self, error: BaseException) -> None:
        """End the copy with an error. Only the first one counts."""
        with self.changed:
            self.fatal = self.fatal or error
            self.changed.notify_all()

    def add_source_fault(self, text: str) -> None:
        """Note a fault of a file on the source, once."""
        with self.changed:
            if text not in self.source_faults:
                self.source_faults.append(text)


class Rail:
    """One way to the peer, with its connections and processes.

    + way: name, interface, local (address), peer (address), port
    """

    def __init__(self, way: dict[str, Any]) -> None:
        self.way = way
        self.name: str = way["name"]
        self.alive = False
        self.is_closed = False  # by the receiver
        self.sent = 0
        self.answered = 0  # number of the last beat that the receiver has answered
        self.control: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def connect(self, kind: str, secret: bytes) -> socket.socket:
        """Connect to the receiver; both ends prove that they know the secret. Raise OSError."""
        peer = self.way["peer"]
        stream = socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if self.way["interface"]:
                # otherwise it might be routed over another network
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.way["interface"].encode())
            if self.way["local"]:
                stream.bind((self.way["local"], 0))
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.settimeout(CONNECT_SECONDS)
            stream.connect((peer, self.way["port"]))
            greet(stream, kind, secret)
            stream.settimeout(None)
        except BaseException:
            stream.close()
            raise
        with self._lock:
            self._sockets.add(stream)
        return stream

    def send(self, request: dict[str, Any]) -> None:
        """Send a request on the control connection, unless it is gone."""
        with contextlib.suppress(OSError):
            assert self.control is not None  # noqa: S101 - for mypy: the rail is alive
            self.control.sendall(encoded(request))

    @contextlib.contextmanager
    def running(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Tie a process to the rail during the block, then end it."""
        with self._lock:
            self._processes.add(process)
        try:
            yield
        finally:
            process.kill()
            process.wait()
            with self._lock:
                self._processes.discard(process)

    def give_up_soon(self) -> None:
        """Have the next beat give the rail up."""
        self.answered = GONE

    def fail(self) -> None:
        """Give the rail up: end its connections and processes."""
        self.alive = False
        with self._lock:
            for stream in self._sockets:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
            for process in self._processes:
                process.terminate()

    def has_no_carrier(self) -> bool:
        """Return True if the rail's interface has lost its link."""
        if not self.way["interface"]:
            return False
        with contextlib.suppress(OSError), open(f"/sys/class/net/{self.way['interface']}/operstate") as file:
            return file.read().strip() in ("down", "lowerlayerdown")
        return False


def first_alive(rails: list[Rail]) -> Rail | None:
    return next((rail for rail in rails if rail.alive), None)
