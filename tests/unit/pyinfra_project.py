"""A folder with inventories and deploys, in which pyinfra really runs."""

from __future__ import annotations

from pathlib import Path
from pprint import pformat

from tests.unit.ssh_server import SshServer

DEPLOYS = Path(__file__).with_name("tiny_deploys.py")


class Project:
    """A folder with inventories, in which pyinfra runs; `folder` is where the tiny deploys write."""

    def __init__(self, root: Path, server: SshServer) -> None:
        self.root = root
        self.server = server
        self.folder = root / "node"
        (root / "tiny.py").write_text(DEPLOYS.read_text())

    def inventory(self, name: str = "inventory.py", **hosts: dict[str, object]) -> str:
        """Write an inventory of hosts with what their data say otherwise; the first is the head."""
        data = [(host.replace("_", "-"), self.server.host_data(**other)) for host, other in hosts.items()]
        (self.root / name).write_text(f"head = {pformat(data[:1])}\nworkers = {pformat(data[1:])}\n")
        return name
