"""The network interfaces of a node as they are now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Interface(FactValue):
    """One interface."""

    mtu_bytes: int
    up: bool  # it has a carrier
    addresses: tuple[str, ...]  # with prefix length; not the link-local ones of IPv6


class Interfaces(SectionsFact[dict[str, Interface]]):
    """Name -> interface. Raises FactProcessError for the host whose output is not understood."""

    def command(self) -> Launch:
        return self.sections({"ip": "ip -j addr"})

    def read_sections(self, found: Mapping[str, Section]) -> dict[str, Interface]:
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
            for row in json.loads("".join(found["ip"].printed))
            if row  # iproute2 leaves an empty object where a filter dropped an interface
        }
