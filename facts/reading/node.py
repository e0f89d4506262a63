"""Values of a node: identity, release, installation, lock, data folder and GPU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from gb10.facts.reading.requests import sections_job
from gb10.facts.reading.values import FactValue, Sections

# Architecture by `uname -m` -> its name for K3s, helm and Docker.
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


def read_identity(found: Sections) -> Identity:
    """Read the identity from the sections of IDENTITY_JOB."""
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


RELEASE_FILE = "/etc/dgx-release"


@dataclass(frozen=True)
class Release(FactValue):
    """The content of /etc/dgx-release. None is a line that is not there."""

    name: str | None  # "DGX Spark"
    pretty_name: str | None
    factory_version: str | None  # of the image that was installed
    factory_date: str | None
    ota_version: str | None  # of the last update over the air; None before the first
    ota_date: str | None
    commit: str | None
    platform: str | None
    serial_number: str | None

    @property
    def version(self) -> str | None:
        """The version that runs: of the last update, or of the image."""
        return self.ota_version or self.factory_version

    also = ("version",)


def parse_release(lines: Iterable[str]) -> Release:
    """Given the lines of /etc/dgx-release, return the release. Raise ValueError for a line that sets nothing.

    Each update over the air appends its lines, so a key may stand there several times: the last one holds.
    """
    values: dict[str, str] = {}
    for line in filter(str.strip, lines):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        key, equals, value = words[0].partition("=")
        if len(words) != 1 or not equals:
            raise ValueError(f"{RELEASE_FILE} contains {line!r}")
        values[key] = value
    return Release(
        name=values.get("DGX_NAME"),
        pretty_name=values.get("DGX_PRETTY_NAME"),
        factory_version=values.get("DGX_SWBUILD_VERSION"),
        factory_date=values.get("DGX_SWBUILD_DATE"),
        ota_version=values.get("DGX_OTA_VERSION"),
        ota_date=values.get("DGX_OTA_DATE"),
        commit=values.get("DGX_COMMIT_ID"),
        platform=values.get("DGX_PLATFORM"),
        serial_number=values.get("DGX_SERIAL_NUMBER"),
    )


SERVICES = ("Docker", "the GPU driver")  # a person may have to repair these


@dataclass(frozen=True)
class SettledState(FactValue):
    """State of a fresh installation. `waits_for` is empty once it is done."""

    boot_id: str
    up_seconds: float
    system: str  # as `systemctl is-system-running` says
    waits_for: tuple[str, ...]  # texts for a person

    @property
    def installs(self) -> tuple[str, ...]:
        """The parts of `waits_for` that end by themselves."""
        return tuple(what for what in self.waits_for if what not in SERVICES)


LOCK_FILE = "/var/lib/gb10/rebuild.lock"
JOURNAL_FILE = "/var/lib/gb10/rebuild.jsonl"  # a copy of the journal of the run that holds the lock


@dataclass(frozen=True)
class LockHolder(FactValue):
    """A run that holds the lock. It may have ended: a lock outlives its process."""

    run: str  # its name in the journal of its controller
    owner: str  # the user
    controller: str  # its hostname
    pid: int
    since: str  # in UTC, ISO 8601
    step: str  # the part of the run that it was last seen in

    def __str__(self) -> str:
        return f"{self.owner}@{self.controller} (pid {self.pid}, {self.step})"


@dataclass(frozen=True)
class DataPlace(FactValue):
    """A path, and the file system that holds it (or that would, where the path is absent)."""

    path: str
    kind: str | None  # "directory", "other" (a file, a dangling link ...), or None where there is nothing
    mounted_at: str  # of the file system that holds it
    source: str  # its device
    filesystem: str  # its type
    own_device: bool  # another device than the root file system's: only then it can outlive a reinstallation
    free_bytes: int
    size_bytes: int
    folders: dict[str, str | None]  # requested name below it -> its kind
    expected: str | None  # the device that /etc/fstab mounts at this very path

    @property
    def is_unmounted(self) -> bool:
        """True if the file system of this path is not mounted: what is written now would vanish below it."""
        return self.expected is not None and self.mounted_at != self.path


@dataclass(frozen=True)
class GpuDevice(FactValue):
    """One GPU."""

    name: str  # "NVIDIA GB10"
    driver_version: str | None
    memory_mib: int | None  # its own memory: None on a GB10


@dataclass(frozen=True)
class GpuProcess(FactValue):
    """A process that computes on a GPU."""

    pid: int
    name: str
    memory_mib: int | None


@dataclass(frozen=True)
class GpuState(FactValue):
    """GPUs, and memory of the node."""

    devices: tuple[GpuDevice, ...]
    cuda_version: str | None  # the newest that the driver supports
    processes: tuple[GpuProcess, ...] | None  # None if nvidia-smi does not list them
    memory_total_kib: int | None  # of the node, which a GB10 shares with its GPU
    memory_available_kib: int | None
    trouble: str | None = None  # output of nvidia-smi if it failed
