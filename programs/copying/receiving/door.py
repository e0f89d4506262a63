"""Accept connections: on the rails' addresses only, from the peer only, with the secret of the copy only."""

from __future__ import annotations

import errno
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

from gb10.programs.answer import RefusedError
from gb10.programs.copying.protocol import authenticate
from gb10.programs.copying.receiving.rsync_daemon import GREETING

PORTS = range(8873, 8973)
HELLO_SECONDS = 15
SILENCE_SECONDS = 60  # on a connection

Serve = Callable[[socket.socket], None]


def log(text: str) -> None:
    """Write a line to the unit's journal."""
    print(text, file=sys.stderr, flush=True)


class Door:
    """Listens and dispatches connections by their kind.

    + serve: kind of a connection ("control", "data", "rsync") -> the function that serves it
    """

    def __init__(self, peers: set[str], secret: bytes, serve: dict[str, Serve]) -> None:
        self._peers = peers
        self._secret = secret
        self._serve = serve

    def listen(self, address: str) -> int:
        """Listen on an address; return the port. Raise RefusedError if that fails."""
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in PORTS:
            try:
                server.bind((address, port))
                server.listen(128)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise RefusedError("RAIL_DOWN", f"nothing can listen on {address}: {error.strerror}") from error
                continue
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            return port
        raise RefusedError("COPY_FAILED", f"no port of {PORTS[0]} to {PORTS[-1]} is free on {address}")

    def _accept(self, server: socket.socket) -> None:
        while True:
            stream, sender = server.accept()
            if sender[0] not in self._peers:
                log(f"refused a connection from {sender[0]}: it is not the peer")
                stream.close()
                continue
            threading.Thread(target=self._welcome, args=(stream, sender[0]), daemon=True).start()

    def _welcome(self, stream: socket.socket, sender: str) -> None:
        with stream:
            try:
                self._serve[self._kind(stream)](stream)
            except KeyError as error:
                log(f"{sender} asked for what is not part of this copy: {error}")
            except RefusedError as error:
                log(f"gb10: {error} (from {sender})")
            except (OSError, ValueError, struct.error) as error:
                log(f"the connection from {sender} broke: {error}")

    def _kind(self, stream: socket.socket) -> str:
        """Authenticate a connection; return its kind. An rsync authenticates itself to its daemon."""
        stream.settimeout(HELLO_SECONDS)
        if "rsync" in self._serve and peek(stream, len(GREETING)) == GREETING:
            stream.settimeout(None)
            return "rsync"
        kind = authenticate(stream, self._secret)
        stream.settimeout(None)  # a timeout of Python costs a system call for each read
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_SECONDS, 0))
        return kind


def peek(stream: socket.socket, count: int) -> bytes:
    """Return the first bytes of a connection without consuming them."""
    deadline = time.monotonic() + HELLO_SECONDS
    while time.monotonic() < deadline:
        start = stream.recv(count, socket.MSG_PEEK)
        if not start or len(start) == count:
            return start
        time.sleep(0.01)
    return b""
