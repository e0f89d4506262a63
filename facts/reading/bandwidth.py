"""What a measurement of a rail means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

HALF_CEILING_GBPS = 100.0  # a half hangs on PCIe Gen5 x4 and carries 92 to 112
THROTTLED_GBPS = (8.0, 25.0)  # NVIDIA/dgx-spark-playbooks#108
NOTE = "note: "
MIB_PER_SECOND_GBPS = 8 * 2**20 / 1e9  # older perftest calls mebibytes MB/sec


class Method(StrEnum):
    """How a rail was measured."""

    RDMA = "ib_write_bw"
    TCP = "tcp"


# Of what a half can carry, what is still as expected: TCP pays with CPU.
FLOOR = {Method.RDMA: 0.8, Method.TCP: 0.4}


class Verdict(StrEnum):
    """What a measured rate means."""

    AS_EXPECTED = "as_expected"
    THROTTLED = "throttled"  # the power fault: update, then cold boot
    TOO_SLOW = "too_slow"
    UNKNOWN = "unknown"  # not measured, or nothing to compare with


@dataclass(frozen=True)
class RailBandwidth(FactValue):
    """What one rail carried towards the peer. None stands for what could not be measured or read."""

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


def parse_tcp_streams(text: str) -> float:
    """Given the JSON of `tcp_streams.py send`, return Gb/s. Raise ValueError or KeyError for anything else."""
    result = json.loads(text)
    rate = result["bytes"] * 8 / result["seconds"] / 1e9
    return float(rate)


def judge(measured_gbps: float | None, link_gbps: float | None, method: Method) -> Verdict:
    """Given a measured rate and the rate that the link claims, return what it means."""
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


def read_rail(netdev: str, peer: str, link: Section, rail: Section) -> RailBandwidth:
    speed = link.first or ""
    link_gbps = int(speed) / 1000 if re.fullmatch(r"[1-9]\d*", speed) else None
    notes = [line for line in rail.lines if line.startswith(NOTE)]
    lines = [line for line in rail.lines if not line.startswith(NOTE)]
    method, measured, trouble = _measurement(lines, rail.status)
    verdict = Verdict.UNKNOWN if method is None else judge(measured, link_gbps, method)
    note = notes[0].removeprefix(NOTE) if notes else None
    return RailBandwidth(netdev, peer, method, measured, link_gbps, verdict, trouble, note)


def _measurement(printed: Sequence[str], status: int) -> tuple[Method | None, float | None, str | None]:
    if status == 127:
        return None, None, "neither ib_write_bw nor python3 on this node"
    if status != 0:
        return None, None, f"the measurement ended with status {status}"
    method, lines = Method(printed[0]), printed[1:]
    if method is Method.RDMA:
        return method, parse_ib_write_bw(lines), None
    result = json.loads("\n".join(lines))
    if "error" in result:
        return None, None, str(result["error"])
    return method, parse_tcp_streams("\n".join(lines)), None
