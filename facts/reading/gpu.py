"""The GPU, its driver, and the processes that use its memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gb10.facts.reading.values import FactValue, Sections

ABSENT = 127


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
    processes: tuple[GpuProcess, ...] | None  # None where nvidia-smi does not tell
    memory_total_kib: int | None  # of the node, which a GB10 shares with its GPU
    memory_available_kib: int | None
    trouble: str | None = None  # what nvidia-smi said when it failed


def read_gpu(found: Sections) -> GpuState | None:
    """Return what the sections of Gpu tell."""
    gpus, processes, memory = found["gpus"], found["processes"], parse_meminfo(found["memory"].lines)
    if gpus.status == ABSENT:
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
