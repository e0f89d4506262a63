"""Programs run on this machine, and the docker command line in particular."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gb10.lab.problem import LabError


def run(
    command: Sequence[str], timeout: float = 120, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Given a command, return what it printed. Raise LabError with the end of its stderr if it fails or hangs."""
    shown = " ".join(command[:4])
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed.", f"Install {command[0]} (as root: make lab-up).") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"{shown} ... did not end within {timeout:.0f} s.", "Is this machine overloaded? Try again."
        ) from error
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise LabError(f"{shown} ... failed ({done.returncode}): {said}", "See the message above.")
    return done.stdout


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@dataclass(frozen=True)
class Docker:
    """The docker command line against one engine; `host` is a DOCKER_HOST, "" the client's own default."""

    host: str

    def __call__(self, *arguments: str, timeout: float = 120, stdin: str | None = None) -> str:
        return run(["docker", *arguments], timeout=timeout, stdin=stdin, env=self.environment())

    def environment(self) -> dict[str, str]:
        """The environment that leads a docker client to this engine."""
        return {"DOCKER_HOST": self.host} if self.host else {}

    def answers(self) -> bool:
        """Whether a client is installed and this engine answers it."""
        if shutil.which("docker") is None:
            return False
        try:
            self("version", "--format", "{{.Server.Version}}", timeout=20)
        except LabError:
            return False
        return True

    def listed(self, kind: str, *filters: str) -> list[str]:
        """The names of the containers, volumes or networks that carry these labels."""
        name = {"container": "{{.Names}}", "volume": "{{.Name}}", "network": "{{.Name}}"}[kind]
        every = ["--all"] if kind == "container" else []
        wanted = [word for label in filters for word in ("--filter", f"label={label}")]
        return self(kind, "ls", *every, *wanted, "--format", name).split()
