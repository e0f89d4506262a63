"""TCP streams between two nodes: the bandwidth of a rail, as far as TCP reaches.

One stream is bound by one core (12 of 200 Gb/s on a Spark), so each has a process of its own. The buffers are small.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable

BUFFER_BYTES = 256 * 1024
CONNECT_SECONDS = 5
BIND_SECONDS = 8
REUSED = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def listen(address: str, port: int, peer: str, seconds: int, listening: Callable[[], None]) -> None:
    """Throw away what `peer` sends to `address`, for at most `seconds`; call `listening` when it may begin."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(seconds)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(*REUSED)
        _bind(server, address, port)
        server.listen(64)
        listening()
        while True:
            stream, sender = server.accept()
            with stream:
                if sender[0] == peer and os.fork() == 0:
                    signal.alarm(seconds)  # alarms are not inherited
                    drain(stream)
                    os._exit(0)


def _bind(server: socket.socket, address: str, port: int) -> None:
    """Bind to a port, as soon as a listener leaves it whose controller was killed."""
    deadline = time.monotonic() + BIND_SECONDS
    while True:
        try:
            return server.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def drain(stream: socket.socket) -> None:
    """Read a stream to its end."""
    buffer = bytearray(BUFFER_BYTES)
    while stream.recv_into(buffer, BUFFER_BYTES, socket.MSG_WAITALL):
        pass


def send(netdev: str, address: str, port: int, seconds: float) -> tuple[int, float]:
    """Send through `netdev` for so long; return how many bytes arrived, and how many seconds that took."""
    buffer = bytes(BUFFER_BYTES)
    sent = 0
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as stream:
        # a packet that the routing table would send elsewhere, say over the management network, proves nothing
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, netdev.encode())
        stream.settimeout(CONNECT_SECONDS + seconds)
        stream.connect((address, port))
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            stream.sendall(buffer)
            sent += BUFFER_BYTES
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)  # the listener closes when it has read everything
        return sent, time.monotonic() - begin


def measure(netdev: str, address: str, port: int, seconds: float, streams: int) -> dict[str, float]:
    """Send several streams at once; return their sum."""
    undisturbed = (signal.SIGTERM, signal.SIG_DFL)  # they end as the pool wants it
    with multiprocessing.get_context("fork").Pool(streams, signal.signal, undisturbed) as pool:
        results = pool.starmap(send, [(netdev, address, port, seconds)] * streams, chunksize=1)
    return {"bytes": sum(sent for sent, _ in results), "seconds": max(taken for _, taken in results)}
