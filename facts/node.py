"""A node: its installation, lock, commands, accounts, speed and GPU."""

from __future__ import annotations

import errno
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.node import (
    JOURNAL_FILE,
    LOCK_FILE,
    SERVICES,
    GpuDevice,
    GpuProcess,
    GpuState,
    LockHolder,
    SettledState,
)
from gb10.facts.reading.values import FactValue, Sections
from gb10.programs.confined import HOMES


class Settled(SectionsFact[SettledState]):
    """Boot, cloud-init, package installation, Docker and the GPU driver: which of them is not done.

    What is not on the node is not waited for.
    """

    def command(self) -> Launch:
        locks = "/var/lib/dpkg/lock-frontend /var/lib/dpkg/lock"
        return self.sections(
            {
                "system": "systemctl is-system-running",
                "cloud-init": "command -v cloud-init >/dev/null && timeout 20 cloud-init status",
                "packages": f"command -v fuser >/dev/null && fuser {locks}",
                "docker": "! command -v docker >/dev/null || timeout 20 docker version --format '{{.Server.Version}}'",
                "gpu": "! command -v nvidia-smi >/dev/null || timeout 20 nvidia-smi -L",
            },
            {"boot": "/proc/sys/kernel/random/boot_id", "uptime": "/proc/uptime"},
        )

    def read_sections(self, found: Sections) -> SettledState:
        system = (found["system"].lines or ("unknown",))[0]
        waits = {
            f"its boot ({system})": system in ("initializing", "starting", "stopping"),
            "cloud-init": "running" in " ".join(found["cloud-init"].lines).split(),
            "the installation of packages": found["packages"].status == 0,
            SERVICES[0]: found["docker"].status != 0,
            SERVICES[1]: found["gpu"].status != 0,
        }
        return SettledState(
            boot_id=found["boot"].lines[0],
            up_seconds=float(found["uptime"].lines[0].split()[0]),
            system=system,
            waits_for=tuple(what for what, is_waited in waits.items() if is_waited),
        )


class NodeLock(SectionsFact[LockHolder | None]):
    """The holder of the node's lock, or None."""

    files: ClassVar = {"lock": LOCK_FILE}

    def read_sections(self, found: Sections) -> LockHolder | None:
        section = found["lock"]
        if section.status == errno.ENOENT:
            return None
        return LockHolder.from_json(json.loads(section.text))


class KeptJournal(SectionsFact[str | None]):
    """The copy of a run's journal that the node keeps for another controller, or None."""

    commands: ClassVar = {"journal": f"cat {JOURNAL_FILE}"}

    def read_sections(self, found: Sections) -> str | None:
        # Sections end without a newline, and a record without one counts as cut off.
        return f"{text}\n" if (text := found["journal"].text) else None


class CommandPaths(SectionsFact[dict[str, str | None]]):
    """Name -> path of each command, or None if the node does not have it.

    A link in /usr/local/bin counts even while what it points to is missing.
    """

    def command(self, names: Sequence[str]) -> Launch:
        return self.sections({name: f"command -v {name} || ls /usr/local/bin/{name}" for name in names})

    def read_sections(self, found: Sections) -> dict[str, str | None]:
        return {name: section.first for name, section in found.items()}


@dataclass(frozen=True)
class Account(FactValue):
    """An account that can log in, or not."""

    name: str
    uid: int
    group: str  # its primary group
    groups: tuple[str, ...]
    home: str
    shell: str
    authorized_keys: tuple[str, ...] | None  # lines of the file; None where there is none


class UserAccount(SectionsFact[Account | None]):
    """The account of a name, or None if the node has none."""

    def command(self, user: str) -> Launch:
        name = shlex.quote(user)
        return self.sections(
            {
                "passwd": f"getent passwd {name}",
                "group": f"id -gn {name}",
                "groups": f"id -Gn {name}",
                "keys": f'cat "$(getent passwd {name} | cut -d: -f6)/.ssh/authorized_keys"',
            },
            guarded=[HOMES],
        )

    def read_sections(self, found: Sections) -> Account | None:
        if found["passwd"].status == 2:  # getent: no such key
            return None
        name, _, uid, _, _, home, shell = found["passwd"].lines[0].split(":")
        keys = found["keys"]
        return Account(
            name=name,
            uid=int(uid),
            group=found["group"].lines[0],
            groups=tuple(found["groups"].lines[0].split()),
            home=home,
            shell=shell,
            authorized_keys=keys.lines if keys.status == 0 else None,
        )


PERFORMANCE_UNIT = "gb10-performance.service"
WANTED_GOVERNOR = "performance"

# governor|governors that the driver offers, of every policy that can be written
READ_GOVERNORS = """cd /sys/devices/system/cpu/cpufreq || exit 127
for policy in policy*; do
  [ -w "$policy/scaling_governor" ] || continue
  echo "$(cat "$policy/scaling_governor")|$(cat "$policy/scaling_available_governors")"
done"""


@dataclass(frozen=True)
class Speed(FactValue):
    """The settings that the hardware has, and their values."""

    governors: tuple[str, ...]  # of the policies that know the wanted one; empty where there are none
    nvidia_smi: str | None  # path of the tool, where it knows persistence mode
    persistence: bool | None
    unit_active: bool
    unit_enabled: bool


class PerformanceMode(SectionsFact[Speed]):
    """Settings of the node's speed."""

    commands: ClassVar = {
        "governors": READ_GOVERNORS,
        "persistence": "timeout 20 nvidia-smi --query-gpu=persistence_mode --format=csv,noheader",
        "nvidia-smi": "command -v nvidia-smi",
        "active": f"systemctl is-active {PERFORMANCE_UNIT}",
        "enabled": f"systemctl is-enabled {PERFORMANCE_UNIT}",
    }

    def read_sections(self, found: Sections) -> Speed:
        rows = [line.split("|") for line in found["governors"].lines if line]
        persistence = {"Enabled": True, "Disabled": False}.get((found["persistence"].first or "").strip())
        return Speed(
            governors=tuple(governor for governor, offered in rows if WANTED_GOVERNOR in offered.split()),
            nvidia_smi=found["nvidia-smi"].first if persistence is not None else None,
            persistence=persistence,
            unit_active=found["active"].first == "active",
            unit_enabled=found["enabled"].first == "enabled",
        )


NOT_FOUND = 127
NVIDIA_SMI = "timeout 15 nvidia-smi"  # it hangs on a GPU that fell off the bus


class Gpu(SectionsFact[GpuState | None]):
    """GPU and driver of the node; None without nvidia-smi.

    A driver that does not answer is no absence: it gives no devices and a `trouble`. A GB10 has no memory of its own:
    nvidia-smi answers `[N/A]`, which is not zero, and the capacity is the node's.
    """

    commands: ClassVar = {
        "gpus": f"{NVIDIA_SMI} --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits",
        "processes": f"{NVIDIA_SMI} --query-compute-apps=pid,process_name,used_memory --format=csv,noheader,nounits",
        "table": NVIDIA_SMI,
    }
    files: ClassVar = {"memory": "/proc/meminfo"}

    def read_sections(self, found: Sections) -> GpuState | None:
        gpus, processes, memory = found["gpus"], found["processes"], parse_meminfo(found["memory"].lines)
        if gpus.status == NOT_FOUND:
            return None
        trouble = None
        if gpus.status != 0:
            trouble = next(filter(None, gpus.lines), f"nvidia-smi ended with status {gpus.status}")
        return GpuState(
            devices=() if trouble else tuple(parse_gpus(gpus.lines)),
            cuda_version=parse_cuda_version(found["table"].lines),
            processes=tuple(parse_processes(processes.lines)) if processes.status == 0 else None,
            memory_total_kib=memory.get("MemTotal"),
            memory_available_kib=memory.get("MemAvailable"),
            trouble=trouble,
        )


def parse_gpus(lines: Iterable[str]) -> Iterator[GpuDevice]:
    """Given csv rows of name, memory and driver version, yield the GPUs. Raise ValueError for another row."""
    for line in filter(str.strip, lines):
        name, memory, driver = line.rsplit(", ", 2)
        yield GpuDevice(name=name, driver_version=_known(driver), memory_mib=_mib(memory))


def parse_processes(lines: Iterable[str]) -> Iterator[GpuProcess]:
    """Given csv rows of pid, name and memory, yield the processes. Raise ValueError for another row.

    Only the name may contain a comma.
    """
    for line in filter(str.strip, lines):
        pid, rest = line.split(", ", 1)
        name, memory = rest.rsplit(", ", 1)
        yield GpuProcess(pid=int(pid), name=name, memory_mib=_mib(memory))


def parse_cuda_version(lines: Iterable[str]) -> str | None:
    """Given the table of nvidia-smi, return the CUDA version of its header, or None.

    Drivers since 610 call it "CUDA UMD Version".
    """
    for line in lines:
        if match := re.search(r"\bCUDA(?: UMD)? Version: *(\d[\w.]*)", line):
            return match[1]
    return None


def parse_meminfo(lines: Iterable[str]) -> dict[str, int]:
    """Given the lines of /proc/meminfo, return its values in KiB (or counts) by key."""
    rows = (re.fullmatch(r"(\S+): +(\d+)(?: kB)?", line) for line in lines)
    return {row[1]: int(row[2]) for row in rows if row}


def _known(text: str) -> str | None:
    # "[N/A]", "[Not Supported]", "[Insufficient Permissions]", "N/A"
    return None if text.startswith("[") or text == "N/A" else text


def _mib(text: str) -> int | None:
    known = _known(text.strip().removesuffix(" MiB"))
    return None if known is None else int(known)
