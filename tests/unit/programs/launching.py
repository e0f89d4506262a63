"""Runs programs as a node does: from their text, in a separate process."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.requests import LOADER, Answer
from gb10.programs.answer import Outlet

SILENT = Outlet("mark", 1 << 20)  # for functions that send nothing
VERSIONS = Path.home() / ".pyenv" / "versions"  # where pyenv keeps other Pythons


def ubuntu_python(version: str) -> str | None:
    """Return the python3 of an Ubuntu, "3.10" or "3.12", or None if it is not installed."""
    found = sorted(VERSIONS.glob(f"{version}*/bin/python{version}")) if VERSIONS.exists() else []
    return str(found[0]) if found else None


def launched(function: str, job: Mapping[str, Any], given: bytes = b"", python: str = sys.executable) -> Answer:
    """Run a function that takes a stream; return its answer."""
    return streamed(function, job, given, python)[0]


def streamed(
    function: str,
    job: Mapping[str, Any],
    given: bytes = b"",
    python: str = sys.executable,
    guarded: Sequence[str] = (),
) -> tuple[Answer, bytes]:
    """Run a function that sends a stream; return its answer, and what it sent."""
    launch = Launch(function, job, streams=True, guarded=guarded or [job.get("root") or job["folder"]])
    done = subprocess.run(
        [python, "-I", "-c", LOADER], input=launch.text.encode() + given, capture_output=True, check=False
    )
    answer = launch.answer()
    for line in done.stderr.decode(errors="replace").splitlines():
        answer.read_line(line)
    _, _, rest = done.stdout.partition(f"{launch.mark}\n".encode())
    sent = bytearray()
    while rest:
        (length,) = struct.unpack("!I", rest[:4])
        sent += rest[4 : 4 + length]
        rest = rest[4 + length :]
    return answer, bytes(sent)
