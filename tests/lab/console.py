"""A node as testinfra sees it by its user's shell on the node itself: a twentieth of the time that a login takes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from gb10.lab.node import USER
from gb10.lab.shell import SYSTEM_PATH, Docker

SECONDS = 300


class ConsoleBackend(BaseBackend):
    """Runs commands in a node's container, as its user."""

    NAME = "console"

    def __init__(self, docker: Docker, container: str) -> None:
        super().__init__(container)
        self._docker = docker

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        words = self.get_command(command, *args)
        pid = self._docker.pid(self.hostname)
        home = f"/home/{USER}"
        environment = [f"HOME={home}", f"USER={USER}", f"LOGNAME={USER}", f"PATH={SYSTEM_PATH}"]
        done = subprocess.run(
            [
                *self._docker.entering(self.hostname),
                *("env", f"--chdir={home}", "--ignore-environment", *environment),
                *(
                    "setpriv",
                    f"--reuid={USER}",
                    f"--regid={USER}",
                    "--init-groups",
                    f"--bounding-set={_mightiest(pid)}",
                ),
                *("bash", "-c", words),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return self.result(done.returncode, self.encode(words), done.stdout, done.stderr)


def _mightiest(pid: int | None) -> str:
    """All that a process of a node may do, even as root, for setpriv: whoever enters from here could set the clock."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    return ",".join(["-all", *(f"+cap_{number}" for number in range(mask.bit_length()) if mask >> number & 1)])


def on_console(docker: Docker, container: str) -> Host:
    """Given a container that reaches_into() is true of, return it for testinfra."""
    return Host(ConsoleBackend(docker, container))
