"""A stand-in for perftest's ib_write_bw. It runs on the nodes, so it uses the standard library only.

    ib_write_bw [-R] [-F] [-d DEVICE] [-p PORT] [-q QPS] [-s BYTES] [-D SECONDS | -n COUNT] [--report_gbits] [SERVER]

It prints what perftest prints. The bytes go over TCP through the interface of the RDMA device, so the figures are what
the rail really carries. As with RDMA, the processes do not touch the bytes: the kernel sends the same page again and
again and discards what arrives. But unlike RDMA this needs CPU, so a test sends only during its first part
(MOST_SECONDS). If the file NO_RDMA exists, the device cannot be opened.
"""

from __future__ import annotations

import getopt
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

SYSFS = Path("/sys/class/infiniband")
NO_RDMA = Path("/etc/gb10-lab/no-rdma")
LINE = "-" * 87
CHUNK_BYTES = 1 << 20
TRIES = 10  # to connect, as perftest's rdma_cm does
TRY_SECONDS = 0.1
MOST_SECONDS = 0.5
LOST_SECONDS = 5  # without progress, until the peer counts as lost
STARS = "*" * 36
REJECTED = 8  # RDMA_CM_EVENT_REJECTED
FLAGS = {"--rdma_cm": "-R", "--CPU-freq": "-F", "--report_gbits": "--report_gbits"}
VALUES = {
    "--ib-dev": "-d",
    "--ib-port": "-i",
    "--port": "-p",
    "--qp": "-q",
    "--size": "-s",
    "--duration": "-D",
    "--iters": "-n",
    "--gid-index": "-x",
    "--mtu": "-m",
    "--tx-depth": "-t",
}


class PerftestError(Exception):
    """A failure, with the text that perftest prints for it."""


@dataclass(frozen=True)
class Test:
    """A test as the command line describes it."""

    server: str | None  # None: this is the server
    device: str
    port: int
    qps: int
    size: int
    seconds: int | None  # None: send this number of iterations instead
    iterations: int
    gbits: bool


@dataclass(frozen=True)
class Report:
    """The result of a test."""

    size: int
    iterations: int
    seconds: float

    def row(self, gbits: bool) -> str:
        """Return the line of perftest's table."""
        rate = self.size * self.iterations / self.seconds / (125e6 if gbits else 2**20)
        messages = self.iterations / self.seconds / 1e6
        digits = 6 if gbits and rate < 0.1 else 2
        figures = f"{0:<7.{digits}f}            {rate:<7.{digits}f}\t\t     {messages:<7.6f}"
        return f" {self.size:<7}    {self.iterations:<10}       {figures}"


def parse(arguments: list[str]) -> Test:
    """Return the test of a command line. Raise PerftestError for an unknown option."""
    try:
        pairs, rest = getopt.gnu_getopt(
            arguments,
            "RFd:i:p:q:s:D:n:x:m:t:",
            [*(name[2:] for name in FLAGS), *(f"{name[2:]}=" for name in VALUES)],
        )
        given = {{**FLAGS, **VALUES}.get(name, name): value for name, value in pairs}
        return Test(
            server=rest[0] if rest else None,
            device=given.get("-d", ""),
            port=int(given.get("-p", 18515)),
            qps=int(given.get("-q", 1)),
            size=int(given.get("-s", 65536)),
            seconds=int(given["-D"]) if "-D" in given else None,
            iterations=int(given.get("-n", 5000)),
            gbits="--report_gbits" in given,
        )
    except (getopt.GetoptError, ValueError) as error:
        raise PerftestError(f"{error}\n Parser function exited with Error") from error


def interface(test: Test) -> tuple[str, str]:
    """Return a test's device and network interface. Raise PerftestError if they are unusable."""
    found = sorted(path.name for path in SYSFS.iterdir()) if SYSFS.exists() else []
    device = test.device or next(iter(found), "")
    if device not in found:
        missing = f"IB device {device} not found" if device else "No IB devices found"
        raise PerftestError(f"{missing}\n Unable to find the Infiniband/RoCE device")
    if NO_RDMA.exists():
        raise PerftestError(" Couldn't get context for the device")
    state = (SYSFS / device / "ports/1/state").read_text().split()[-1].capitalize()
    if state != "Active":
        raise PerftestError(f" Port number 1 state is {state}\n Couldn't get context for the device")
    return device, next((SYSFS / device / "device/net").iterdir()).name


def serve(test: Test, device: str, netdev: str) -> None:
    """Receive the bytes of one client and print the result."""
    print(f"\n{STARS}\n* Waiting for client to connect... *\n{STARS}", flush=True)
    with bound(netdev) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", test.port))
        listener.listen(64)
        control, _ = listener.accept()
        with control, control.makefile("rw") as talk:
            give_up_when_lost(control)
            wanted = read_json(talk)
            give_up_when_lost(control, int(wanted["seconds"]))
            own = str(control.getsockname()[0])
            print_test(test, device, netdev, int(wanted["qps"]))
            print_addresses(int(wanted["qps"]), own, str(control.getpeername()[0]))
            write_json(talk, {"ready": True})
            give_up_when_lost(listener)
            streams = [listener.accept()[0] for _ in range(int(wanted["qps"]))]
            print_heading(test)
            write_json(talk, {"bytes": in_parallel(drain, streams)})
            report = read_json(talk)
    print_report(test, Report(int(report["size"]), int(report["iterations"]), float(report["seconds"])))


def write(test: Test, server: str, device: str, netdev: str) -> None:
    """Send to a server and print what arrived there."""
    control = connect(netdev, server, test.port)
    with control, control.makefile("rw") as talk:
        print_test(test, device, netdev, test.qps)
        print_addresses(test.qps, str(control.getsockname()[0]), server)
        write_json(talk, {"qps": test.qps, "seconds": test.seconds or 0})
        read_json(talk)
        streams = [connect(netdev, server, test.port) for _ in range(test.qps)]
        print_heading(test)
        begin = time.monotonic()
        end = None if test.seconds is None else begin + min(test.seconds, MOST_SECONDS)
        in_parallel(lambda stream: send(stream, test.size, end, test.iterations), streams)
        arrived = int(read_json(talk)["bytes"])
        report = Report(test.size, arrived // test.size, time.monotonic() - begin)
        time.sleep(max(0.0, begin + (test.seconds or 0) - time.monotonic()))
        write_json(talk, {"size": report.size, "iterations": report.iterations, "seconds": report.seconds})
    print_report(test, report)


def bound(netdev: str) -> socket.socket:
    """Return a socket that uses only one interface, since RDMA has no route over the management network."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, netdev.encode())
    return made


def give_up_when_lost(stream: socket.socket, more_seconds: int = 0) -> None:
    """Set timeouts in the kernel for waiting on the peer, since Python's own timeouts do not work with sendfile."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        stream.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", LOST_SECONDS + more_seconds, 0))


def connect(netdev: str, address: str, port: int) -> socket.socket:
    """Connect to a server that may not listen yet. Raise PerftestError if it does not in time."""
    for _ in range(TRIES):
        stream = bound(netdev)
        give_up_when_lost(stream)
        try:
            stream.connect((address, port))
            return stream
        except ConnectionRefusedError:
            stream.close()
            time.sleep(TRY_SECONDS)
    raise PerftestError(
        f"Unexpected CM event bl blka {REJECTED}\n Unable to perform rdma_client function\n"
        " Unable to init the socket connection"
    )


def in_parallel(work: Callable[[socket.socket], int], streams: list[socket.socket]) -> int:
    """Run `work` on all streams at once and return the sum. Raise OSError if one fails."""
    with ThreadPoolExecutor(len(streams)) as pool:
        total = sum(pool.map(work, streams))
    for stream in streams:
        stream.close()
    return total


def send(stream: socket.socket, size: int, end: float | None, iterations: int) -> int:
    """Send messages until `end`, or this number of iterations. Return the bytes sent."""
    with open(os.memfd_create("message"), "w+b") as message:
        message.write(bytes(size))
        message.flush()
        sent = 0
        while sent < size * iterations if end is None else time.monotonic() < end or sent % size:
            sent += os.sendfile(stream.fileno(), message.fileno(), sent % size, size - sent % size)
    stream.shutdown(socket.SHUT_WR)
    return sent


def drain(stream: socket.socket) -> int:
    """Let the kernel discard everything until the stream ends. Return the number of bytes."""
    give_up_when_lost(stream)
    buffer = bytearray(CHUNK_BYTES)
    total = 0
    while got := stream.recv_into(buffer, CHUNK_BYTES, socket.MSG_TRUNC):
        total += got
    return total


def read_json(talk: TextIO) -> Any:
    """Read a JSON line from the peer. Raise ConnectionError if the peer is gone."""
    line = talk.readline()
    if not line:
        raise ConnectionResetError("the peer is gone")
    return json.loads(line)


def write_json(talk: TextIO, value: dict[str, Any]) -> None:
    """Send a JSON line to the peer."""
    print(json.dumps(value), file=talk, flush=True)


def print_test(test: Test, device: str, netdev: str, qps: int) -> None:
    """Print the test as perftest does."""
    mtu = int(Path(f"/sys/class/net/{netdev}/mtu").read_text())
    depth = [" TX depth        : 128"] if test.server else []
    lines = [
        LINE,
        "                    RDMA_Write BW Test",
        f" Dual-port       : OFF\t\tDevice         : {device}",
        f" Number of qps   : {qps}\t\tTransport type : IB",
        " Connection type : RC\t\tUsing SRQ      : OFF",
        " PCIe relax order: ON\t\tLock-free      : OFF",
        " ibv_wr* API     : ON\t\tUsing Enhanced Reorder      : OFF",
        *depth,
        " CQ Moderation   : 1",
        " CQE Poll Batch  : Dynamic",
        f" Mtu             : {max(m for m in (256, 512, 1024, 2048, 4096) if m <= max(mtu - 64, 256))}[B]",
        " Link type       : Ethernet",
        " GID index       : 3",
        " Max inline data : 0[B]",
        " rdma_cm QPs\t : ON",
        " Data ex. method : rdma_cm",
        LINE,
    ]
    print("\n".join(lines))


def print_addresses(qps: int, local: str, remote: str) -> None:
    """Print the addresses of all queue pairs: the IPv4 address as RoCE v2 GID, the rest made up."""
    for side, address in (("local", local), ("remote", remote)):
        gid = [0] * 10 + [255, 255, *socket.inet_aton(address)]
        for number in range(qps):
            print(
                f" {side} address: LID 0000 QPN {0x100 + number:#06x} PSN 0x3a5e58 RKey 0x17ef42 VAddr 0x007f5c3e180000"
            )
            print(" GID: " + ":".join(f"{byte:02d}" for byte in gid))
    print(LINE)


def print_heading(test: Test) -> None:
    """Print the head of the table."""
    unit = "Gb/sec" if test.gbits else "MB/sec"
    print(f" #bytes     #iterations    BW peak[{unit}]    BW average[{unit}]   MsgRate[Mpps]", flush=True)


def print_report(test: Test, report: Report) -> None:
    """Print the row and the end of the table."""
    print(report.row(test.gbits))
    print(LINE)


def main(arguments: list[str]) -> int:
    """Run the test of a command line and return the exit status."""
    try:
        test = parse(arguments)
        device, netdev = interface(test)
        if test.server:
            write(test, test.server, device, netdev)
        else:
            serve(test, device, netdev)
    except PerftestError as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f" Completion with error: {error}\n Failed to complete run_iter_bw function successfully", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
