"""A pyinfra project for tests that run pyinfra."""

from __future__ import annotations

from pathlib import Path
from pprint import pformat

from tests.unit.ssh_server import SshServer

DEPLOYS = Path(__file__).with_name("tiny_deploys.py")


class Project:
    """A pyinfra project with the tiny deploys, which write to `folder`."""

    def __init__(self, root: Path, server: SshServer) -> None:
        self.root = root
        self.server = server
        self.folder = root / "node"
        (root / "tiny.py").write_text(DEPLOYS.read_text())

    def inventory(self, name: str = "inventory.py", **hosts: dict[str, object]) -> str:
        """Write an inventory with these hosts and their additional data, and return its name. The first is the head."""
        data = [(host.replace("_", "-"), self.server.host_data(**other)) for host, other in hosts.items()]
        (self.root / name).write_text(f"head = {pformat(data[:1])}\nworkers = {pformat(data[1:])}\n")
        return name
