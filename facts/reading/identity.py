"""The identity of a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.requests import sections_job
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

# What `uname -m` says, in the words of K3s, helm and Docker.
ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "amd64", "amd64": "amd64"}
IDENTITY_JOB = sections_job(
    {"links": "ip -j link", "machine": "uname -m", "clock": "date +%s.%N"},
    {
        "hostname": "/proc/sys/kernel/hostname",
        "machine-id": "/etc/machine-id",
        "boot-id": "/proc/sys/kernel/random/boot_id",
        "os": "/etc/os-release",
    },
)


@dataclass(frozen=True)
class Identity(FactValue):
    """Identity of a node. The machine-id is new with each installation, the MACs stay with the machine."""

    hostname: str
    machine_id: str | None
    boot_id: str | None
    macs: dict[str, str]  # physical interface -> MAC
    architecture: str  # "arm64", "amd64", or what uname says
    os_id: str | None
    os_version: str | None
    os_name: str | None
    clock: float  # seconds since the epoch


def read_identity(found: Mapping[str, Section]) -> Identity:
    """Return what the sections of NodeIdentity tell."""
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
