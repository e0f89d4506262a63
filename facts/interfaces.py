"""The network interfaces of a node as they are now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_interface

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Interface(FactValue):
    """One interface."""

    mtu_bytes: int
    up: bool  # it has a carrier
    addresses: tuple[str, ...]  # with prefix length; not the link-local ones of IPv6


class Interfaces(FactBase[dict[str, Interface]]):
    """Name -> interface. Raises FactProcessError for the host whose output is not understood."""

    def command(self) -> StringCommand:
        return sections({"ip": "ip -j addr"})

    @understood
    def process(self, output: list[str]) -> dict[str, Interface]:
        section = read_sections(output)["ip"]
        if section.status != 0:
            raise ValueError(f"ip ended with status {section.status}")
        return {
            row["ifname"]: Interface(
                mtu_bytes=int(row["mtu"]),
                up=row["operstate"] == "UP",
                addresses=tuple(
                    str(ip_interface(f"{entry['local']}/{entry['prefixlen']}"))
                    for entry in row["addr_info"]
                    if entry.get("scope") != "link"
                ),
            )
            for row in json.loads(section.text)
            if row  # iproute2 leaves an empty object where a filter dropped an interface
        }
