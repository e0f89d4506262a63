"""The rails: the ways to the peer."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from gb10.programs.copying.protocol import greet, said

CONNECT_SECONDS = 5
DEAD_SECONDS = 10  # a connection is dead if nothing comes back for so long
GONE = -1_000_000  # number of the last answered beat that makes the next beat give the rail up


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
                # otherwise the routing table might send it over another network
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

    def tell(self, word: dict[str, Any]) -> None:
        """Send a word on the control connection, unless that is gone."""
        with contextlib.suppress(OSError):
            assert self.control is not None  # noqa: S101 - for mypy: the rail is alive
            self.control.sendall(said(word))

    @contextlib.contextmanager
    def running(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Tie a process to the rail while the block runs, and end it afterwards."""
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
        """Let the next beat give the rail up."""
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
    """Return the first rail that is alive, or None."""
    return next((rail for rail in rails if rail.alive), None)
