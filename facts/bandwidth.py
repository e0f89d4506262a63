"""What the rails between two nodes really carry, measured on demand.

Only a measurement shows the known power fault of the NIC: 12 to 14 Gb/s whatever the protocol, while the link says
200 Gb/s and the PCIe link is sound. A fact runs on one node, so the other one must listen: `listen_command` is the
shell command for it, one for each rail.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.sections import Section, read_sections, sections, understood
from gb10.facts.reading.values import FactValue

STREAMS = 8  # one TCP stream carries about 12 Gb/s on a Spark, eight filled a half
QUEUE_PAIRS = 4
MESSAGE_BYTES = 65536  # small: a test with 16 GB of buffers has frozen a node

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


class RdmaBandwidth(FactBase[tuple[RailBandwidth, ...]]):
    """Rate of each rail from this node to a peer that listens (see `listen_command`), one rail after the other.

    + peers: network interface of this node -> (the peer's address on that rail, port); needs port + 1 as well
    + seconds: how long each rail is measured

    By ib_write_bw where this node has it and the peer answers to it, by TCP streams otherwise. It takes the rails'
    whole capacity: never while something is served. Raises FactProcessError for output that is not understood.
    """

    def command(self, peers: Mapping[str, Sequence[str | int]], seconds: int = 3) -> StringCommand:
        commands = {}
        for netdev, (address, port) in peers.items():
            commands[f"link {netdev} {address}"] = f"cat /sys/class/net/{shlex.quote(netdev)}/speed"
            commands[f"rail {netdev} {address}"] = _measure(netdev, str(address), int(port), seconds)
        return sections(commands)

    @understood
    def process(self, output: list[str]) -> tuple[RailBandwidth, ...]:
        found = read_sections(output)
        rails = [name.split()[1:] for name in found if name.startswith("rail ")]
        return tuple(
            _rail(netdev, peer, found[f"link {netdev} {peer}"], found[f"rail {netdev} {peer}"])
            for netdev, peer in rails
        )


def listen_command(netdev: str, address: str, port: int, peer: str, lifetime_seconds: int, seconds: int = 3) -> str:
    """Given a rail of the peer's side, return the shell command that answers one measurement of `seconds`.

    `netdev` and `address` are the listening node's, `peer` is the address of the one that measures. It ends by itself
    after its lifetime; TCP serves only `peer`, ib_write_bw (port + 1) serves one client.
    """
    tcp = shlex.join(["python3", "-c", _tcp_streams(), "listen", address, str(port), peer, str(lifetime_seconds)])
    rdma = f"timeout {lifetime_seconds} {_ib_write_bw(port, seconds)}"
    return f"{_find_rdma_device(netdev)} && {{ {rdma} >/dev/null 2>&1 & }}; exec {tcp}"


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


def _rail(netdev: str, peer: str, link: Section, rail: Section) -> RailBandwidth:
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


def _measure(netdev: str, address: str, port: int, seconds: int) -> str:
    tcp = ["python3", "-c", _tcp_streams(), "send", netdev, address, str(port), str(seconds), str(STREAMS)]
    limit = seconds + 15
    failed = f"""echo "{NOTE}ib_write_bw ended with status $status: $(echo "$rdma" | grep . | tail -n 1)\""""
    return (
        f"if {_find_rdma_device(netdev)}; then "
        f"rdma=$(timeout {limit} {_ib_write_bw(port, seconds)} {shlex.quote(address)} 2>&1); status=$?; "
        f'[ $status = 0 ] && {{ echo {Method.RDMA}; echo "$rdma"; exit; }}; {failed}; fi; '
        f"echo {Method.TCP}; exec timeout {limit} {shlex.join(tcp)}"
    )


def _find_rdma_device(netdev: str) -> str:
    folder = shlex.quote(f"/sys/class/net/{netdev}/device/infiniband")
    return f'device=$(ls {folder} 2>/dev/null) && [ -n "$device" ] && command -v ib_write_bw >/dev/null'


def _ib_write_bw(port: int, seconds: int) -> str:
    # -R lets rdma_cm choose the GID by address: its index is not the same on every Spark
    size = f"-q {QUEUE_PAIRS} -s {MESSAGE_BYTES} -D {seconds}"
    return f'ib_write_bw -R -F --report_gbits -d "$device" -p {port + 1} {size}'


def _tcp_streams() -> str:
    return files("gb10.programs").joinpath("tcp_streams.py").read_text()
