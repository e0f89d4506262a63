"""The bandwidth of rails: by ib_write_bw if it works on both ends, by TCP streams otherwise."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from gb10.programs.answer import Outlet

STREAMS = 8  # one TCP stream fills one core and carries about 12 Gb/s on a Spark; eight filled a half
BUFFER_BYTES = 256 * 1024  # of a TCP stream
CONNECT_SECONDS = 5
BIND_SECONDS = 8
QUEUE_PAIRS = 4
MESSAGE_BYTES = 65536  # small: a test with 16 GB of buffers has frozen a node
SPARE_SECONDS = 15
NET = "/sys/class/net"


def measure(job: dict[str, Any], outlet: Outlet) -> list[dict[str, Any]]:
    """Measure job["rails"] for job["seconds"], one after the other; each is [netdev, address of the peer, port].

    Each result has `link_mbps`, the rate that the interface reports, or None. It also has `rdma`, the output of
    ib_write_bw, or `tcp`, bytes and seconds, or `error`, why there is neither; and `note`, why it was not ib_write_bw.
    """
    return [_measured(netdev, address, port, job["seconds"]) for netdev, address, port in job["rails"]]


def _measured(netdev: str, address: str, port: int, seconds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"netdev": netdev, "peer": address, "link_mbps": _speed(netdev), "note": None}
    device = rdma_device(netdev)
    if device:
        limit = ["timeout", str(seconds + SPARE_SECONDS)]
        command = [*limit, *ib_write_bw(device, port, seconds), address]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode == 0:
            return {**found, "rdma": output}
        last = ([line for line in output.splitlines() if line.strip()] or [""])[-1]
        found["note"] = f"ib_write_bw ended with status {done.returncode}: {last}"
    try:
        return {**found, "tcp": measure_tcp(netdev, address, port, seconds, STREAMS)}
    except OSError as error:
        return {**found, "error": str(error)}


def listen(job: dict[str, Any], outlet: Outlet) -> None:
    """Serve one measurement of job["rail"], [netdev, own address, port], by job["peer"]; report when it may begin.

    TCP serves only the peer, ib_write_bw (port + 1) one client. This ends after job["lifetime"] seconds, or when the
    connection ends.
    """
    netdev, address, port = job["rail"]
    device = rdma_device(netdev)
    with _ib_write_bw_listens(device, port, job) if device else nullcontext():
        listen_tcp(address, port, job["peer"], job["lifetime"], lambda: outlet.report(listens=True))


@contextmanager
def _ib_write_bw_listens(device: str, port: int, job: dict[str, Any]) -> Iterator[None]:
    """Let ib_write_bw listen while the block runs. `timeout` leads a process group of its own."""
    command = ["timeout", str(job["lifetime"]), *ib_write_bw(device, port, job["seconds"])]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
    try:
        yield
    finally:  # a signal to our process group does not reach that of `timeout`
        process.terminate()
        process.wait()


def rdma_device(netdev: str) -> str | None:
    """Return the RDMA device of an interface; None without one, or without ib_write_bw."""
    folder = f"{NET}/{netdev}/device/infiniband"
    devices = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return devices[0] if devices and shutil.which("ib_write_bw") else None


def ib_write_bw(device: str, port: int, seconds: int) -> list[str]:
    """Return the command line that measures on port + 1, without the address of a listener."""
    # -R lets rdma_cm choose the GID by address: its index is not the same on every Spark
    command = ["ib_write_bw", "-R", "-F", "--report_gbits", "-d", device, "-p", str(port + 1)]
    return [*command, "-q", str(QUEUE_PAIRS), "-s", str(MESSAGE_BYTES), "-D", str(seconds)]


def _speed(netdev: str) -> int | None:
    try:
        with open(f"{NET}/{netdev}/speed") as file:
            speed = int(file.read())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None


# TCP streams ----------------------------------------------------------------------------------------------------------


def listen_tcp(address: str, port: int, peer: str, seconds: int, listening: Callable[[], None]) -> None:
    """Discard what `peer` sends to `address`, for at most `seconds`; call `listening` when it may begin."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(seconds)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    """Bind to a port. A listener whose controller was killed may still hold it for a while."""
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
    """Send through `netdev` for some seconds. Return the bytes that arrived, and the seconds that it took."""
    buffer = bytes(BUFFER_BYTES)
    sent = 0
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as stream:
        # without this the routing table may choose another network, and the result is not that of the rail
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


def measure_tcp(netdev: str, address: str, port: int, seconds: float, streams: int) -> dict[str, float]:
    """Send several streams at once, each in its own process. Return their sum."""
    undisturbed = (signal.SIGTERM, signal.SIG_DFL)  # the pool ends them by this signal
    with multiprocessing.get_context("fork").Pool(streams, signal.signal, undisturbed) as pool:
        results = pool.starmap(send, [(netdev, address, port, seconds)] * streams, chunksize=1)
    return {"bytes": sum(sent for sent, _ in results), "seconds": max(taken for _, taken in results)}
