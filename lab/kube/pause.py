"""The image of every pod container: one static program of some 200 bytes that sleeps until it is told to end.

A node of the lab has no registry to pull from, and no compiler; the program is written out here as machine code.
"""

from __future__ import annotations

import io
import platform
import struct
import tarfile

IMAGE = "rancher/mirrored-pause"
TAG = "lab"

_LOAD_ADDRESS = 0x400000
_HEADERS = 64 + 56  # the ELF header and one program header

# Blocks SIGINT and SIGTERM and waits for one of them, as the first process of a container has to: the kernel gives it
# no signal that it would die of by default. In both, the last eight bytes are the set of the two signals.
_CODE = {
    "x86_64": (
        62,
        bytes.fromhex(
            "b80e000000 31ff 488d352f000000 31d2 41ba08000000 0f05"  # rt_sigprocmask(SIG_BLOCK, set, NULL, 8)
            "b880000000 488d3d19000000 31f6 31d2 41ba08000000 0f05"  # rt_sigtimedwait(set, NULL, NULL, 8)
            "85c0 78e4"  # once more, where it was interrupted
            "b83c000000 31ff 0f05"  # exit(0)
            "0240000000000000"
        ),
    ),
    "aarch64": (
        183,
        bytes.fromhex(
            "000080d2 e1010010 020080d2 030180d2 e81080d2 010000d4"  # the same calls
            "40010010 010080d2 020080d2 030180d2 281180d2 010000d4"
            "40ffff37"
            "000080d2 a80b80d2 010000d4"
            "0240000000000000"
        ),
    ),
}


def program(machine: str) -> bytes:
    """Given x86_64 or aarch64, return the ELF file."""
    number, code = _CODE[machine]
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    size = _HEADERS + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, number, 1, _LOAD_ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x10000)
    return header + segment + code


def image() -> bytes:
    """The image's file system for this machine, as a tar."""
    content = program(platform.machine())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
