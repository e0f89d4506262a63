"""Several shell commands, each with an output of its own; none can fail the others."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import Any

from gb10.programs.answer import Outlet

TOGETHER = 8  # commands that run at the same time
SHELL = "/bin/sh"
OUTPUT_BYTES = 16 << 20  # of one command


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, list[Any]]:
    """Return name -> [exit status, output] of the commands in job["commands"], name -> text.

    Standard input is empty, and standard error is lost. 127 is the status of a command that is absent.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
    running: list[tuple[str, int, subprocess.Popen[bytes]]] = []
    for number, (name, command) in enumerate(job["commands"].items()):
        if number >= TOGETHER:
            running[number - TOGETHER][2].wait()
        output = os.memfd_create(name)
        process = subprocess.Popen(
            [SHELL, "-c", command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL
        )
        running.append((name, output, process))
    return {name: [process.wait(), _content(output)] for name, output, process in running}


def _content(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")
