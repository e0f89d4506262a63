"""A testinfra host that runs commands as a node's user, without SSH. The login takes most of a command's time."""

from __future__ import annotations

import subprocess
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
        line = self.get_command(command, *args)
        home = f"/home/{USER}"
        environment = [f"HOME={home}", f"USER={USER}", f"LOGNAME={USER}", f"PATH={SYSTEM_PATH}"]
        done = subprocess.run(
            [
                *self._docker.entering(self.hostname),
                *("env", f"--chdir={home}", "--ignore-environment", *environment),
                *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"),
                *("bash", "-c", line),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return self.result(done.returncode, self.encode(line), done.stdout, done.stderr)


def on_console(docker: Docker, container: str) -> Host:
    """Return the testinfra host of a container. Docker.reaches_into() must be true for it."""
    return Host(ConsoleBackend(docker, container))
