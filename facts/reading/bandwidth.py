"""Measurements of rails, and their verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gb10.facts.reading.values import FactValue

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
