"""K3s: its paths and names, and what is installed.

Paths and names are those of the official install script (k3s-io/k3s, install.sh).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.values import FactValue
from gb10.group_data.settings import API_PORT

BINARY = "/usr/local/bin/k3s"
CONFIG = "/etc/rancher/k3s/config.yaml"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
TOKEN_FILE = "/etc/rancher/k3s/token"  # noqa: S105 - where it lies, not what it is
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105 - likewise
SERVER = "/var/lib/rancher/k3s/server"
STATE = "/var/lib/gb10/k3s"  # unfinished downloads, and the mark below
DRAINED = f"{STATE}/drained"
UNITS = {"server": "k3s", "agent": "k3s-agent"}
UNINSTALL = {"server": "/usr/local/bin/k3s-uninstall.sh", "agent": "/usr/local/bin/k3s-agent-uninstall.sh"}
KILLALL = "/usr/local/bin/k3s-killall.sh"
KUBECTL = f"KUBECACHEDIR=/dev/null {BINARY} kubectl --request-timeout=5s"  # a read leaves no cache behind


def unit_file(role: str) -> str:
    """Given a role, return the path of its systemd unit."""
    return f"/etc/systemd/system/{UNITS[role]}.service"


def server_url(address: str, port: int = API_PORT) -> str:
    """Given the address of the head, return the URL of its API server."""
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"


def env_file(role: str) -> str:
    """Given a role, return the path of the environment file that its unit reads."""
    return f"{unit_file(role)}.env"


@dataclass(frozen=True, kw_only=True)
class K3sUnit(FactValue):
    """The systemd unit of K3s."""

    role: str | None  # "server" or "agent", by the unit that is there
    unit_state: str | None  # systemd's ActiveState: "active", "activating", "failed" ...
    unit_enabled: bool
    main_pid: int | None
    stale: bool  # the running process is older than a file that it was started from
    foreign: bool  # somebody else wrote the unit: see ForeignK3s
    exec_start: str | None  # the unit's command line: flags, when somebody else installed it

    @property
    def is_active(self) -> bool:
        return self.unit_state == "active"


@dataclass(frozen=True, kw_only=True)
class K3sInstallation(K3sUnit):
    """An installation of K3s, whole or half."""

    version: str | None  # "v1.36.4+k3s1"; None without a binary that answers
    binary_sha256: str | None
    architecture: str  # of the machine: "arm64", "amd64", or what uname says
    config_sha256: str | None
    uninstall_scripts: tuple[str, ...]
    node_password: bool  # the node has joined a cluster since it was installed
    drained: bool  # an upgrade drained the node and has not yet put it back


@dataclass(frozen=True)
class ForeignSettings(FactValue):
    """Settings of K3s beside its flags: keys of config.yaml, and the names of variables."""

    config: dict[str, Any]  # secrets in it are masked
    variables: tuple[str, ...]  # of the unit's environment file, but for those that /etc/default has as well


@dataclass(frozen=True)
class Leftovers(FactValue):
    """Remains of K3s that a teardown has still to remove."""

    paths: tuple[str, ...]
    mounts: tuple[str, ...]  # mount points below K3s' folders
    processes: tuple[str, ...]  # "pid command" of what runs from K3s' folders
    # Docker containers with a label of Kubernetes, "id name"; None where Docker is there and does not answer.
    containers: tuple[str, ...] | None
    links: tuple[str, ...]  # network interfaces of the CNI

    @property
    def is_empty(self) -> bool:
        """True if nothing was found."""
        return not (self.paths or self.mounts or self.processes or self.containers or self.links)

    @property
    def is_absence(self) -> bool:
        """True if it is known that nothing is left."""
        return self.is_empty and self.containers is not None
