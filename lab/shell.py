"""Run programs on this machine, above all docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gb10.lab.problem import LabError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    command: Sequence[str], timeout: float = 120, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a command and return its output. Raise LabError with the end of its stderr if it fails or times out."""
    shown = " ".join(command[:4])
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed.", f"Install {command[0]} (as root: make lab-up).") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"{shown} ... did not finish within {timeout:.0f} s.", "Is this machine overloaded? Try again."
        ) from error
    if done.returncode != 0:
        output = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise LabError(f"{shown} ... failed ({done.returncode}): {output}", "See the message above.")
    return done.stdout


def ended(pid: int) -> bool:
    """Return True if a process has ended, even if it is not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# (engine, container) -> the container's first process and its id
_first_processes: dict[tuple[str, str], tuple[int, str]] = {}


def _is_of(pid: int, container: str) -> bool:
    """Return True if a process of this machine belongs to the container with this id."""
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _capabilities(pid: int | None) -> str:
    """Return the bounding set of a process (capabilities(7)) as a setpriv option."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise LabError("The container ended before a command could run in it.", "gb10 lab status") from error
    mask = int(next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    return ",".join(["-all", *(f"+cap_{number}" for number in range(mask.bit_length()) if mask >> number & 1)])


@dataclass(frozen=True)
class Docker:
    """The docker command line for one engine. `host` is its DOCKER_HOST, or "" for the client's default."""

    host: str

    def __call__(self, *arguments: str, timeout: float = 120, stdin: str | None = None) -> str:
        return run(["docker", *arguments], timeout=timeout, stdin=stdin, env=self.environment())

    def environment(self) -> dict[str, str]:
        """Return the environment of a docker client for this engine."""
        return {"DOCKER_HOST": self.host} if self.host else {}

    def inside(self, container: str, script: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run a shell script as root in a container and return its output. Raise LabError if it fails.

        If possible, enter the container's namespaces: `docker exec` uses fifty times as much CPU.
        """
        if not self.reaches_into(container):
            interactive = ["--interactive"] if stdin is not None else []
            return self("exec", *interactive, container, "sh", "-c", script, timeout=timeout, stdin=stdin)
        clean = ["env", "--ignore-environment", f"PATH={SYSTEM_PATH}", "HOME=/root"]
        return run([*self.entering(container), *clean, "sh", "-c", script], timeout=timeout, stdin=stdin)

    def entering(self, container: str) -> list[str]:
        """Return the words that run a command as root in a container. reaches_into() must be true of it.

        The command gets only the container's capabilities. Otherwise it would have all rights of this machine's root
        and could set its clock.
        """
        pid = self.pid(container)
        enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return [*enter, "setpriv", f"--bounding-set={_capabilities(pid)}"]

    def reaches_into(self, container: str) -> bool:
        """Return True if we can enter a container's namespaces: as root, on the machine where it runs."""
        return os.geteuid() == 0 and shutil.which("nsenter") is not None and self.pid(container) is not None

    def pid(self, container: str) -> int | None:
        """Return the container's first process on this machine, or None if it does not run here."""
        known = _first_processes.get((self.host, container))
        if known is None or not _is_of(*known):
            pid, name = self("container", "inspect", "--format", "{{.State.Pid}} {{.Id}}", container).split()
            known = _first_processes[self.host, container] = int(pid), name
        return known[0] if _is_of(*known) else None

    def answers(self) -> bool:
        """Return True if a client is installed and this engine answers."""
        if shutil.which("docker") is None:
            return False
        try:
            self("version", "--format", "{{.Server.Version}}", timeout=20)
        except LabError:
            return False
        return True

    def listed(self, kind: str, *filters: str) -> list[str]:
        """Return the names of the containers, volumes or networks with these labels."""
        name = {"container": "{{.Names}}", "volume": "{{.Name}}", "network": "{{.Name}}"}[kind]
        every = ["--all"] if kind == "container" else []
        wanted = [word for label in filters for word in ("--filter", f"label={label}")]
        return self(kind, "ls", *every, *wanted, "--format", name).split()
