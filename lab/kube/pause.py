"""The image of all pod containers: a static program of about 200 bytes that sleeps until a signal.

A lab node has no registry and no compiler, so the program is machine code in this file.
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

# Block SIGINT and SIGTERM and wait for one of them: the kernel does not deliver signals with a deadly default action to
# the first process of a container. The last eight bytes are the set of the two signals.
_CODE = {
    "x86_64": (
        62,
        bytes.fromhex(
            "b80e000000 31ff 488d352f000000 31d2 41ba08000000 0f05"  # rt_sigprocmask(SIG_BLOCK, set, NULL, 8)
            "b880000000 488d3d19000000 31f6 31d2 41ba08000000 0f05"  # rt_sigtimedwait(set, NULL, NULL, 8)
            "85c0 78e4"  # again if interrupted
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
    """Return the ELF file for x86_64 or aarch64."""
    number, code = _CODE[machine]
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    size = _HEADERS + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, number, 1, _LOAD_ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x10000)
    return header + segment + code


def image() -> bytes:
    """Return the image's file system for this machine as a tar."""
    content = program(platform.machine())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
