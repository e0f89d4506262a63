"""The bandwidth of rails: by ib_write_bw if it works on both ends, by TCP streams otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from gb10.programs import tcp_streams
from gb10.programs.answer import Outlet

STREAMS = 8  # one TCP stream carries about 12 Gb/s on a Spark, eight filled a half
QUEUE_PAIRS = 4
MESSAGE_BYTES = 65536  # small: a test with 16 GB of buffers has frozen a node
SPARE_SECONDS = 15
NET = "/sys/class/net"


def measure(job: dict[str, Any], outlet: Outlet) -> list[dict[str, Any]]:
    """Measure job["rails"] for job["seconds"], one after the other; each is [netdev, address of the peer, port].

    Each result has `link_mbps` as the interface claims it, or None. It also has `rdma`, the output of ib_write_bw, or
    `tcp`, bytes and seconds, or `error`, why there is neither; and `note`, why it was not ib_write_bw.
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
        said = done.stdout.decode(errors="replace")
        if done.returncode == 0:
            return {**found, "rdma": said}
        last = ([line for line in said.splitlines() if line.strip()] or [""])[-1]
        found["note"] = f"ib_write_bw ended with status {done.returncode}: {last}"
    try:
        return {**found, "tcp": tcp_streams.measure(netdev, address, port, seconds, STREAMS)}
    except OSError as error:
        return {**found, "error": str(error)}


def listen(job: dict[str, Any], outlet: Outlet) -> None:
    """Answer one measurement of job["rail"], [netdev, own address, port], by job["peer"]; report when it may begin.

    TCP serves only the peer, ib_write_bw (port + 1) one client. It ends after job["lifetime"] seconds, and with the
    connection.
    """
    netdev, address, port = job["rail"]
    device = rdma_device(netdev)
    with _ib_write_bw_listens(device, port, job) if device else nullcontext():
        tcp_streams.listen(address, port, job["peer"], job["lifetime"], lambda: outlet.report(listens=True))


@contextmanager
def _ib_write_bw_listens(device: str, port: int, job: dict[str, Any]) -> Iterator[None]:
    """Let ib_write_bw listen while the block runs. `timeout` leads a process group, so no signal to ours reaches it."""
    command = ["timeout", str(job["lifetime"]), *ib_write_bw(device, port, job["seconds"])]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
    try:
        yield
    finally:
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
    words = ["ib_write_bw", "-R", "-F", "--report_gbits", "-d", device, "-p", str(port + 1)]
    return [*words, "-q", str(QUEUE_PAIRS), "-s", str(MESSAGE_BYTES), "-D", str(seconds)]


def _speed(netdev: str) -> int | None:
    try:
        with open(f"{NET}/{netdev}/speed") as file:
            speed = int(file.read())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None
