"""The image of every pod container: one static program of some 200 bytes that sleeps for ever.

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

# pause() for ever; on arm64, which has no such call, ppoll() on nothing.
_CODE = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (183, bytes.fromhex("000080d2 010080d2 020080d2 030080d2 040080d2 280980d2 010000d4 f9ffff17")),
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
