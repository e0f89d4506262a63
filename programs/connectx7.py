"""The halves of a ConnectX-7: what /sys and the tools of a node show of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gb10.programs import sections
from gb10.programs.answer import Outlet

MELLANOX = "0x15b3"  # PCI vendor
RDMA = "/sys/class/infiniband"
NET = "/sys/class/net"
ABSENT = 127


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, list[Any]]:
    """Return the sections of the job, see programs/sections.py, and those of /sys."""
    return {**sections.main(job, outlet), **sysfs()}


def sysfs() -> dict[str, list[Any]]:
    """Return a section for each class of devices. Each line has one device, its values separated by bars.

    sysfs rdma: device, port, PCI address, vendor, rate, state, physical state, interfaces
    sysfs net:  interface, PCI address, port name of the NIC, Mb/s; of Mellanox interfaces only
    """
    return {"sysfs rdma": _section(RDMA, _ports), "sysfs net": _section(NET, _interface)}


def _section(folder: str, lines: Callable[[str], Iterable[list[str]]]) -> list[Any]:
    if not os.path.isdir(folder):
        return [ABSENT, ""]
    rows = [row for name in sorted(os.listdir(folder)) for row in lines(f"{folder}/{name}")]
    return [0, "".join(f"{'|'.join(row)}\n" for row in rows)]


def _ports(device: str) -> Iterator[list[str]]:
    name = os.path.basename(device)
    for port in _names(f"{device}/ports"):
        values = [_text(f"{device}/ports/{port}/{value}") for value in ("rate", "state", "phys_state")]
        interfaces = " ".join(_names(f"{device}/device/net"))
        yield [name, port, _pci_address(device), _text(f"{device}/device/vendor"), *values, interfaces]


def _interface(netdev: str) -> Iterator[list[str]]:
    if _text(f"{netdev}/device/vendor") == MELLANOX:
        values = [_text(f"{netdev}/{value}") for value in ("phys_port_name", "speed")]
        yield [os.path.basename(netdev), _pci_address(netdev), *values]


def _pci_address(device: str) -> str:
    link = f"{device}/device"
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _text(path: str) -> str:
    return str(sections.read(path)[1]).strip()
