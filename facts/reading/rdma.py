"""The ConnectX-7 as a node sees it: four halves behind two QSFP ports.

Each port hangs on two PCIe links, so it appears twice, and full speed on one cable needs both halves, each with an
address in a subnet of its own (docs.nvidia.com/dgx/dgx-spark/spark-clustering.html). Names are taken from the system:
`rocep1s0f0`, `mlx5_0` and `roceP2p1s1` have all been seen for such halves.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import reduce
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Any, TypeVar

from gb10.facts.reading.values import FactValue, Section, Sections
from gb10.programs.connectx7 import MELLANOX

HALVES_PER_PORT = 2
Parsed = TypeVar("Parsed")


class PortFault(StrEnum):
    """Why a physical port cannot carry full speed."""

    HALF_MISSING = "half_missing"
    HALF_DOWN = "half_down"
    NO_ADDRESS = "no_address"
    SAME_SUBNET = "same_subnet"
    MTU_MISMATCH = "mtu_mismatch"


@dataclass(frozen=True)
class RdmaHalf(FactValue):
    """Names of one half of a ConnectX-7 port. None stands for what could not be read."""

    device: str | None = None  # RDMA device; None where the kernel shows only a network interface
    port: int | None = None  # port of the RDMA device, 1 on a Spark
    netdev: str | None = None
    pci_address: str | None = None
    physical_port: int | None = None  # QSFP port; 0 is the one next to the RJ45 socket


@dataclass(frozen=True)
class RdmaLink(RdmaHalf):
    """One half of a ConnectX-7 port, and the state of its link."""

    state: str | None = None  # ACTIVE, DOWN, INIT... whatever the tool's spelling
    physical_state: str | None = None  # LINK_UP, DISABLED, POLLING...
    operstate: str | None = None  # of the netdev: UP, DOWN
    rate_gbps: float | None = None  # meaningless while the link is down: an unplugged port reports 40
    mtu_bytes: int | None = None
    addresses: tuple[str, ...] | None = None  # with prefix length

    also = ("up",)

    @property
    def up(self) -> bool:
        """True if it carries traffic. Only `state` says so: a link can be DOWN with physical state LINK_UP."""
        return self.state == "ACTIVE" if self.state is not None else self.operstate == "UP"

    @property
    def subnets(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Subnets of its addresses. IPv6 link-local is left out: every interface is in it."""
        interfaces = (ip_interface(address) for address in self.addresses or ())
        return tuple(i.network for i in interfaces if i.version == 4 or not i.is_link_local)


@dataclass(frozen=True)
class PhysicalPort(FactValue):
    """A QSFP port with its halves."""

    number: int
    halves: tuple[RdmaLink, ...]

    @property
    def faults(self) -> tuple[PortFault, ...]:
        """Reasons why the port lacks full speed: none if two halves are up, on two subnets, with equal MTU."""
        subnets = [half.subnets for half in self.halves]
        found = {
            PortFault.HALF_MISSING: len(self.halves) < HALVES_PER_PORT,
            PortFault.HALF_DOWN: not all(half.up for half in self.halves),
            PortFault.NO_ADDRESS: not all(subnets),
            PortFault.SAME_SUBNET: any(
                a.overlaps(b) for one, other in itertools.combinations(subnets, 2) for a in one for b in other
            ),
            PortFault.MTU_MISMATCH: len({half.mtu_bytes for half in self.halves}) > 1,
        }
        return tuple(fault for fault, present in found.items() if present)

    @property
    def ready(self) -> bool:
        """True if both halves are up, on two subnets, with equal MTU."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "ready": self.ready, "faults": list(self.faults)}


@dataclass(frozen=True)
class ConnectX7(FactValue):
    """All halves of a node, in order of physical port and device."""

    links: tuple[RdmaLink, ...]

    @property
    def ports(self) -> tuple[PhysicalPort, ...]:
        """The physical ports, without the halves whose port is unknown."""
        numbers = sorted({link.physical_port for link in self.links if link.physical_port is not None})
        return tuple(
            PhysicalPort(number, tuple(link for link in self.links if link.physical_port == number))
            for number in numbers
        )

    @property
    def ready_ports(self) -> tuple[PhysicalPort, ...]:
        """Ports that can carry full speed."""
        return tuple(port for port in self.ports if port.ready)

    @property
    def up_netdevs(self) -> tuple[str, ...]:
        """Network interfaces of the halves that are up."""
        return tuple(link.netdev for link in self.links if link.up and link.netdev)

    also = ("ports",)


def read_connectx7(found: Sections) -> ConnectX7 | None:
    """Given the sections of RdmaLinks, return the halves of the node, or None."""
    sysfs = _answer(found["sysfs rdma"], _sysfs_rows)
    readings = [
        _rdma(found["rdma json"], found["rdma"]),
        _answer(found["ibdev2netdev"], parse_ibdev2netdev),
        None if sysfs is None else [_sysfs_link(row) for row in sysfs],
        _answer(found["ibstat"], parse_ibstat),
    ]
    netdevs = _answer(found["sysfs net"], _sysfs_netdevs) or []
    if not netdevs and all(reading is None for reading in readings):
        return None
    foreign = {row[0] for row in sysfs or () if row[3] != MELLANOX}
    links = [link for link in _merge(readings) if link.device not in foreign]
    addresses = parse_ip(found["ip"].text) if found["ip"].status == 0 else {}
    return ConnectX7(tuple(sorted(_with_netdevs(links, netdevs, addresses), key=_order)))


def parse_rdma_json(text: str) -> list[RdmaLink]:
    """Given what `rdma -j link` prints, return its links. Raise ValueError for anything else."""
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"rdma -j link printed {text[:200]!r}")
    return [
        RdmaLink(
            device=_word(row["ifname"]).split("/")[0],
            port=int(row["port"]),
            netdev=_word(row.get("netdev")) or None,
            state=_state(_word(row["state"])),
            physical_state=_state(_word(row.get("physical_state"))),
        )
        for row in rows
    ]


def parse_rdma_text(lines: Iterable[str]) -> list[RdmaLink]:
    """Given the lines of `rdma link`, return its links. Raise ValueError for a line of another shape.

    The name stands after "link" or, in older iproute2, after an index ("8/1:"), with or without a colon.
    """
    return [_rdma_line(line) for line in lines if line.strip()]


def _rdma_line(line: str) -> RdmaLink:
    words = line.split()
    if len(words) < 4 or not re.fullmatch(r"link|\d+/\d+:", words[0]):
        raise ValueError(f"rdma link printed {line!r}")
    device, _, port = words[1].rstrip(":").rpartition("/")
    values = dict(zip(words[2::2], words[3::2], strict=True))
    return RdmaLink(
        device=device,
        port=int(port),
        netdev=values.get("netdev"),
        state=_state(values["state"]),
        physical_state=_state(values.get("physical_state", "")),
    )


def parse_ibdev2netdev(lines: Iterable[str]) -> list[RdmaLink]:
    """Given the lines of ibdev2netdev, return its links. Raise ValueError for a line of another shape."""
    links = []
    for line in filter(str.strip, lines):
        match = re.fullmatch(r"(\S+) port (\d+) ==> (\S*) ?\((\w+)\)\s*", line)
        if not match:
            raise ValueError(f"ibdev2netdev printed {line!r}")
        device, port, netdev, operstate = match.groups()
        links.append(RdmaLink(device=device, port=int(port), netdev=netdev or None, operstate=operstate.upper()))
    return links


def parse_ibstat(lines: Iterable[str]) -> list[RdmaLink]:
    """Given the lines of ibstat, return its links. Raise ValueError for a line of another shape."""
    links: list[RdmaLink] = []
    device: str | None = None
    for line in filter(str.strip, lines):
        if match := re.fullmatch(r"CA '(\S+)'", line.strip()):
            device = match[1]
            continue
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or device is None:
            raise ValueError(f"ibstat printed {line!r}")
        if match := re.fullmatch(r"Port (\d+)", key):
            links.append(RdmaLink(device=device, port=int(match[1])))
        elif links and links[-1].device == device:
            links[-1] = _ibstat_value(links[-1], key, value)
    return links


def _ibstat_value(link: RdmaLink, key: str, value: str) -> RdmaLink:
    match key:
        case "State":
            return replace(link, state=_state(value))
        case "Physical state":
            return replace(link, physical_state=_state(value))
        case "Rate":
            return replace(link, rate_gbps=_leading_number(value))
    return link


def parse_ip(text: str) -> dict[str, RdmaLink]:
    """Read the output of `ip -d -j addr`: interface -> link. Raise ValueError for anything else."""
    found = {}
    for row in json.loads(text):
        # iproute2 leaves an empty object where a filter dropped an interface
        if not row:
            continue
        cidrs = (f"{a['local']}/{a['prefixlen']}" for a in row.get("addr_info", []) if a)
        found[_word(row["ifname"])] = RdmaLink(
            mtu_bytes=int(row["mtu"]),
            operstate=_word(row.get("operstate")) or None,
            addresses=tuple(str(ip_interface(cidr)) for cidr in cidrs),
            pci_address=_word(row["parentdev"]) if row.get("parentbus") == "pci" else None,
        )
    return found


def _rdma(as_json: Section, as_text: Section) -> list[RdmaLink] | None:
    if as_json.status == 0:
        try:
            return parse_rdma_json(as_json.text)
        except (ValueError, KeyError, TypeError):
            # a few iproute2 releases print JSON that is none: their text is sound
            if as_text.status != 0:
                raise
    return _answer(as_text, parse_rdma_text)


def _answer(section: Section, parse: Callable[[Iterable[str]], Parsed]) -> Parsed | None:
    return parse(section.lines) if section.status == 0 else None


def _rows(lines: Iterable[str], columns: int) -> Iterator[list[str]]:
    for line in lines:
        row = line.split("|")
        if len(row) != columns:
            raise ValueError(f"{line!r} is no row of {columns} columns")
        yield row


def _sysfs_rows(lines: Iterable[str]) -> list[list[str]]:
    return list(_rows(lines, 8))


def _sysfs_link(row: list[str]) -> RdmaLink:
    device, port, pci_address, _, rate, state, physical_state, netdevs = row
    return RdmaLink(
        device=device,
        port=int(port),
        netdev=netdevs if len(netdevs.split()) == 1 else None,
        state=_state(state),
        physical_state=_state(physical_state),
        rate_gbps=_leading_number(rate),
        pci_address=pci_address or None,
    )


def _sysfs_netdevs(lines: Iterable[str]) -> list[RdmaLink]:
    return [
        RdmaLink(
            netdev=netdev,
            pci_address=pci_address or None,
            physical_port=int(name[1:]) if re.fullmatch(r"p\d+", name) else None,
            rate_gbps=int(speed) / 1000 if re.fullmatch(r"[1-9]\d*", speed) else None,
        )
        for netdev, pci_address, name, speed in _rows(lines, 4)
    ]


def _merge(readings: Iterable[list[RdmaLink] | None]) -> list[RdmaLink]:
    """Merge the links that several tools report, best first, into one for each device and port."""
    merged: dict[tuple[str | None, int | None], RdmaLink] = {}
    for link in itertools.chain.from_iterable(reading or () for reading in readings):
        key = (link.device, link.port)
        merged[key] = _fill(merged[key], link) if key in merged else link
    return list(merged.values())


def _with_netdevs(links: list[RdmaLink], netdevs: list[RdmaLink], addresses: dict[str, RdmaLink]) -> Iterator[RdmaLink]:
    known = {link.netdev for link in links}
    by_name = {netdev.netdev: netdev for netdev in netdevs}
    for link in [*links, *(netdev for netdev in netdevs if netdev.netdev not in known)]:
        more = (by_name.get(link.netdev), addresses.get(link.netdev or ""))
        full = reduce(_fill, (m for m in more if m), link)
        yield replace(full, physical_port=_physical_port(full))


def _physical_port(link: RdmaLink) -> int | None:
    """The QSFP port: as the NIC names it, as the interface name ends (np1), or the PCI function."""
    if link.physical_port is not None:
        return link.physical_port
    if match := re.search(r"np(\d+)$", link.netdev or ""):
        return int(match[1])
    if match := re.search(r"\.(\d)$", link.pci_address or ""):
        return int(match[1])
    return None


def _fill(link: RdmaLink, other: RdmaLink) -> RdmaLink:
    missing = {f.name: getattr(other, f.name) for f in fields(link) if getattr(link, f.name) is None}
    return replace(link, **missing)


def _order(link: RdmaLink) -> tuple[int, str, str]:
    port = -1 if link.physical_port is None else link.physical_port
    return port, link.pci_address or "", link.netdev or link.device or ""


def _word(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _state(text: str) -> str | None:
    """Given a state in any tool's spelling ("4: ACTIVE", "LinkUp", "LINK_UP"), return the one of `rdma`."""
    word = text.rsplit(":", maxsplit=1)[-1].strip()
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).upper() or None


def _leading_number(text: str) -> float | None:
    # "200 Gb/sec (4X HDR)": the bracket is not to be trusted
    match = re.match(r"\d+(\.\d+)?", text)
    return float(match[0]) if match else None
