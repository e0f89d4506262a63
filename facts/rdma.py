"""The ConnectX-7 as a node sees it, and the bandwidth of its rails.

Names are taken from the system: `rocep1s0f0`, `mlx5_0` and `roceP2p1s1` have all been seen. Only a measurement shows
the known power fault of the NIC: 12 to 14 Gb/s whatever the protocol, while the link says 200 Gb/s and the PCIe link is
sound. A fact runs on one node, so the other one must listen: see `listen`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gb10.facts.reading.launcher import Launch, ProgramFact, SectionsFact
from gb10.facts.reading.rdma import ConnectX7, read_connectx7
from gb10.facts.reading.requests import sections_job
from gb10.facts.reading.values import FactValue, Sections


class RdmaLinks(SectionsFact[ConnectX7 | None]):
    """Every ConnectX-7 half of the node; None without RDMA and such a NIC.

    From `rdma -j link` (its text form where the JSON is none), then ibdev2netdev, sysfs and ibstat for what is
    missing, and `ip -j addr`.
    """

    def command(self) -> Launch:
        commands = {
            "rdma json": "rdma -j link",
            "rdma": "rdma link",
            "ibdev2netdev": "ibdev2netdev",
            "ibstat": "ibstat",
            "ip": "ip -d -j addr",
        }
        return Launch("gb10.programs.connectx7:main", sections_job(commands))

    def read_sections(self, found: Sections) -> ConnectX7 | None:
        return read_connectx7(found)


HALF_CEILING_GBPS = 100.0  # a half hangs on PCIe Gen5 x4 and carries 92 to 112
THROTTLED_GBPS = (8.0, 25.0)  # NVIDIA/dgx-spark-playbooks#108
MIB_PER_SECOND_GBPS = 8 * 2**20 / 1e9  # older perftest calls mebibytes MB/sec


class Method(StrEnum):
    """The way in which a rail was measured."""

    RDMA = "ib_write_bw"
    TCP = "tcp"


# Of what a half can carry, what is still as expected: TCP pays with CPU.
FLOOR = {Method.RDMA: 0.8, Method.TCP: 0.4}


class Verdict(StrEnum):
    """The meaning of a measured rate."""

    AS_EXPECTED = "as_expected"
    THROTTLED = "throttled"  # the power fault: update, then cold boot
    TOO_SLOW = "too_slow"
    UNKNOWN = "unknown"  # not measured, or nothing to compare with


@dataclass(frozen=True)
class RailBandwidth(FactValue):
    """The measured bandwidth of one rail towards the peer. None is what could not be measured or read."""

    netdev: str
    peer: str
    method: Method | None
    measured_gbps: float | None
    link_gbps: float | None  # what the interface claims
    verdict: Verdict
    trouble: str | None = None  # why there is no measurement
    note: str | None = None  # why it was not measured by ib_write_bw, though both tool and device are there


def parse_ib_write_bw(lines: Iterable[str]) -> float:
    """Given the lines of ib_write_bw, return its average in Gb/s. Raise ValueError where there is none.

    The column is found by its heading; of several sizes the last one counts.
    """
    column, unit, average = None, "", None
    for line in lines:
        if line.strip().startswith("#bytes"):
            headings = re.findall(r"#\w+|[A-Z]\w*(?: \w+)?\[[^]]+\]", line)
            column = next((i for i, name in enumerate(headings) if name.startswith("BW average[")), None)
            unit = headings[column].removeprefix("BW average[").rstrip("]") if column is not None else ""
        elif column is not None and (row := line.split()) and all(re.fullmatch(r"\d+(\.\d+)?", w) for w in row):
            average = float(row[column])
    if average is None:
        raise ValueError("ib_write_bw printed no average")
    return average * {"Gb/sec": 1.0, "MB/sec": MIB_PER_SECOND_GBPS, "MiB/sec": MIB_PER_SECOND_GBPS}[unit]


def judge(measured_gbps: float | None, link_gbps: float | None, method: Method) -> Verdict:
    """Given a measured rate and the rate that the link claims, return the verdict."""
    if measured_gbps is None:
        return Verdict.UNKNOWN
    if measured_gbps >= FLOOR[method] * min(link_gbps or HALF_CEILING_GBPS, HALF_CEILING_GBPS):
        return Verdict.AS_EXPECTED
    if link_gbps is None:
        return Verdict.UNKNOWN
    low, high = THROTTLED_GBPS
    if link_gbps >= HALF_CEILING_GBPS and low <= measured_gbps <= high:
        return Verdict.THROTTLED
    return Verdict.TOO_SLOW


def read_rail(found: Mapping[str, Any]) -> RailBandwidth:
    """Given a result of programs/bandwidth.py, return the bandwidth of the rail."""
    method = measured = None
    if "rdma" in found:
        method, measured = Method.RDMA, parse_ib_write_bw(found["rdma"].splitlines())
    elif "tcp" in found:
        method, measured = Method.TCP, float(found["tcp"]["bytes"] * 8 / found["tcp"]["seconds"] / 1e9)
    link_gbps = None if found["link_mbps"] is None else found["link_mbps"] / 1000
    return RailBandwidth(
        netdev=found["netdev"],
        peer=found["peer"],
        method=method,
        measured_gbps=measured,
        link_gbps=link_gbps,
        verdict=Verdict.UNKNOWN if method is None else judge(measured, link_gbps, method),
        trouble=None if method else str(found["error"]),
        note=found["note"],
    )


SPARE_SECONDS = 30  # for each rail, beside twice the time of a measurement


class RdmaBandwidth(ProgramFact[tuple[RailBandwidth, ...]]):
    """Rate of each rail from this node to a peer that listens (see `listen`), one rail after the other.

    + peers: network interface of this node -> (the peer's address on that rail, port); needs port + 1 as well
    + seconds: how long each rail is measured

    By ib_write_bw where this node has it and the peer answers to it, by TCP streams otherwise. It takes the rails'
    whole capacity: never while something is served. Raises FactProcessError for output that is not understood.
    """

    def command(self, peers: Mapping[str, Sequence[str | int]], seconds: int = 3) -> Launch:
        rails = [[netdev, str(address), int(port)] for netdev, (address, port) in peers.items()]
        limit = len(rails) * (2 * seconds + SPARE_SECONDS)
        return Launch("gb10.programs.bandwidth:measure", {"rails": rails, "seconds": seconds}, seconds=limit)

    def read(self, answer: Any) -> tuple[RailBandwidth, ...]:
        return tuple(map(read_rail, answer))


def listen(
    netdev: str,
    address: str,
    port: int,
    peer: str,
    *,
    lifetime_seconds: int,
    seconds: int = 3,
    on_report: Callable[[dict[str, Any]], None] = lambda details: None,
) -> Launch:
    """Return the command that answers one measurement of `seconds` on a rail.

    `netdev` and `address` are those of this node, `peer` is the address of the node that measures. The command calls
    `on_report` once it listens, and ends after its lifetime or with its connection. TCP serves only `peer`,
    ib_write_bw (port + 1) serves one client.
    """
    job = {"rail": [netdev, address, port], "peer": peer, "lifetime": lifetime_seconds, "seconds": seconds}
    return Launch("gb10.programs.bandwidth:listen", job, seconds=lifetime_seconds, on_report=on_report)
