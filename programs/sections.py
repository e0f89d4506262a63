"""Files and the output of shell commands, each as a section. One that fails does not fail the others."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import Any

from gb10.programs.answer import Outlet

TOGETHER = 16  # commands that run at the same time
SHELL = "/bin/sh"
OUTPUT_BYTES = 16 << 20  # of one command
FILE_BYTES = 1 << 20  # of one file; /proc/sys refuses to be asked for more than 4 MiB


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, list[Any]]:
    """Return the sections of job["commands"], name -> shell command, and of job["files"], name -> path."""
    return {**dict(zip(job["commands"], run(job["commands"].values()), strict=True)), **read_all(job["files"])}


def read_all(files: dict[str, str]) -> dict[str, list[Any]]:
    """Given name -> path, return name -> [0, text], or [errno, ""]."""
    return {name: read(path) for name, path in files.items()}


def read(path: str) -> list[Any]:
    """Return [0, text] of a file, or [errno, ""]."""
    try:
        with open(path, "rb") as file:
            return [0, file.read(FILE_BYTES).decode(errors="replace")]
    except OSError as error:
        return [error.errno, ""]


def run(commands: Iterable[str]) -> list[list[Any]]:
    """Return [exit status, output] of each shell command.

    Standard input is empty, standard error is discarded. The status of an absent command is 127.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
    started: list[tuple[int, int]] = []
    statuses: list[int] = []
    for number, command in enumerate(commands):
        if number >= TOGETHER:
            statuses.append(_status(started[number - TOGETHER][0]))
        started.append(_start(command))
    statuses += [_status(pid) for pid, _ in started[len(statuses) :]]
    return [[status, _content(output)] for status, (_, output) in zip(statuses, started, strict=True)]


def _start(command: str) -> tuple[int, int]:
    """Start a shell command. Return its process and the file that takes its output."""
    # Importing subprocess takes as long as some of the commands.
    output = os.memfd_create("section")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    return os.posix_spawn(SHELL, [SHELL, "-c", command], os.environ, file_actions=actions), output


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _content(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")
