"""Who a node is: its names, numbers and clock."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.sections import read_sections, sections, understood
from gb10.facts.reading.values import FactValue

# What `uname -m` says, in the words of K3s, helm and Docker.
ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "amd64", "amd64": "amd64"}


@dataclass(frozen=True)
class Identity(FactValue):
    """Who a node is. The machine-id tells one installation from the next, the MACs stay with the machine."""

    hostname: str
    machine_id: str | None
    boot_id: str | None
    macs: dict[str, str]  # physical interface -> MAC
    architecture: str  # "arm64", "amd64", or what uname says
    os_id: str | None
    os_version: str | None
    os_name: str | None
    clock: float  # seconds since the epoch


class NodeIdentity(FactBase[Identity]):
    """Identity of the node. Raises FactProcessError for the host whose output is not understood."""

    def command(self) -> StringCommand:
        return sections(
            {
                "hostname": "cat /proc/sys/kernel/hostname",
                "machine-id": "cat /etc/machine-id",
                "boot-id": "cat /proc/sys/kernel/random/boot_id",
                "links": "ip -j link",
                "machine": "uname -m",
                "os": "cat /etc/os-release",
                "clock": "date +%s.%N",
            }
        )

    @understood
    def process(self, output: list[str]) -> Identity:
        found = read_sections(output)
        machine = found["machine"].first or "unknown"
        release = dict(line.split("=", 1) for line in found["os"].lines if "=" in line)
        release = {key: value.strip().strip("\"'") for key, value in release.items()}
        return Identity(
            hostname=found["hostname"].lines[0],
            machine_id=found["machine-id"].first,
            boot_id=found["boot-id"].first,
            macs=_macs(found["links"].text) if found["links"].status == 0 else {},
            architecture=ARCHITECTURES.get(machine, machine),
            os_id=release.get("ID"),
            os_version=release.get("VERSION_ID"),
            os_name=release.get("PRETTY_NAME"),
            clock=float(found["clock"].lines[0]),
        )


def _macs(links: str) -> dict[str, str]:
    """Given `ip -j link`, return the MACs of the machine's own interfaces: not of bridges, tunnels and containers."""
    return {
        link["ifname"]: link["address"]
        for link in json.loads(links)
        if link.get("link_type") == "ether"
        and not link.get("linkinfo")
        and not link["ifname"].startswith(("docker", "br-", "veth", "cni", "flannel"))
    }
