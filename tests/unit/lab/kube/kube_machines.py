"""The stand-in for K3s as an executable, run without root in its own folder, with the real kubectl and helm."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = "v1.36.4+k3s1"
NEWER = "v1.37.1+k3s1"
# Short, so that tests do not wait long, but long enough for heartbeats every two seconds on a busy machine.
GRACE = "3"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: Callable[[], Any], seconds: float = 15) -> Any:
    """Call `what` until its result is true and return it. Fail after some seconds."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < end, f"still {answer!r} after {seconds} s"
        time.sleep(0.1)


class Machine:
    """One simulated node: a folder in place of / and one k3s process."""

    def __init__(self, root: Path, binary: Path, tools: Path) -> None:
        self.root = root
        self.binary = binary
        self.journal = root / "journal"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "GB10_LAB_ROOT": str(root),
            "GB10_LAB_BIN": str(tools),
            "GB10_LAB_GRACE": GRACE,
            "DOCKER_HOST": f"unix://{root}/no-docker.sock",
        }
        self.etc = root / "etc/rancher/k3s"
        self.etc.mkdir(parents=True)
        self.data = root / "var/lib/rancher/k3s"

    def configure(self, **settings: Any) -> None:
        """Write config.yaml as JSON, which is valid YAML."""
        named = {key.replace("_", "-"): value for key, value in settings.items()}
        (self.etc / "config.yaml").write_text(json.dumps(named))

    def start(self, role: str, *arguments: str, **environment: str) -> None:
        with self.journal.open("ab") as journal:
            self.process = subprocess.Popen(
                [self.binary, role, *arguments], env={**self.environment, **environment}, stderr=journal
            )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run k3s and wait for its end."""
        return subprocess.run(
            [self.binary, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def has_logged(self, words: str) -> bool:
        return self.journal.exists() and words in self.journal.read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Stop the process and return the seconds that this took."""
        started = time.monotonic()
        if self.process:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None
        return time.monotonic() - started


class Server(Machine):
    """A machine that runs `k3s server`."""

    def __init__(self, root: Path, binary: Path, tools: Path) -> None:
        super().__init__(root, binary, tools)
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = self.etc / "k3s.yaml"
        self.tools = tools

    def up(self, *arguments: str, **settings: Any) -> None:
        """Write the settings, start the server, and wait until it reports that it is up."""
        defaults = {"https_listen_port": self.port, "node_name": "spark-1", "node_ip": "127.0.0.1"}
        self.configure(**{**defaults, **settings})
        already = self.journal.read_text().count("is up and running") if self.journal.exists() else 0
        self.start("server", *arguments)
        eventually(lambda: self.journal.read_text().count("is up and running") > already)

    def token(self) -> str:
        return (self.data / "server/token").read_text().strip()

    def client(self, name: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl or helm against this server."""
        return subprocess.run(
            [self.tools / name, *arguments],
            env={**self.environment, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            input=stdin,
            text=True,
            timeout=60,
            check=False,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its output. It must succeed."""
        done = self.client("kubectl", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its error text. It must fail."""
        done = self.client("kubectl", *arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> str:
        return self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))

    def ready(self, node: str) -> str:
        """Return the status of the node's Ready condition."""
        conditions = self.get("node", node)["status"]["conditions"]
        return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


class Machines:
    """Creates machines and stops them all at the end."""

    def __init__(self, folder: Path, binary: Path, tools: Path) -> None:
        self._folder, self._binary, self._tools = folder, binary, tools
        self._made: list[Machine] = []

    def _new(self, kind: type[Machine], name: str) -> Machine:
        machine = kind(self._folder / name, self._binary, self._tools)
        self._made.append(machine)
        return machine

    def server(self, name: str = "spark-1") -> Server:
        machine = self._new(Server, name)
        assert isinstance(machine, Server)
        return machine

    def agent(self, server: Server, name: str, /, **settings: Any) -> Machine:
        """Return a machine with the settings to join the server. It is not started yet."""
        machine = self._new(Machine, name)
        number = len(self._made) + 1
        defaults = {
            "server": server.url,
            "token": server.token(),
            "node_name": name,
            "node_ip": f"127.0.0.{number}",
        }
        machine.configure(**{**defaults, **settings})
        return machine

    def stop(self) -> None:
        for machine in self._made:
            machine.stop(signal.SIGKILL)
