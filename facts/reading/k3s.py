"""K3s: its paths and names, and what is installed.

Paths and names are those of the official install script (k3s-io/k3s, install.sh).
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.node import ARCHITECTURES
from gb10.facts.reading.values import FactValue, Section, Sections
from gb10.group_data.settings import API_PORT

BINARY = "/usr/local/bin/k3s"
CONFIG = "/etc/rancher/k3s/config.yaml"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
TOKEN_FILE = "/etc/rancher/k3s/token"  # noqa: S105 - where it lies, not what it is
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105 - likewise
SERVER = "/var/lib/rancher/k3s/server"
STATE = "/var/lib/gb10/k3s"  # downloads on their way, and the mark below
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


def read_installation(found: Sections) -> K3sInstallation | None:
    """Return what the sections of K3sInstall tell."""
    units = _units(found["units"])
    role = next((role for role in UNITS if units.get(role, {}).get("LoadState") == "loaded"), None)
    unit = units[role] if role else {}
    digest, config, scripts = found["binary"].first, found["config"].first, found["scripts"].lines
    if not (role or digest or config or scripts or found["state"].lines):
        return None
    pid = int(unit.get("MainPID", "0"))
    machine = found["machine"].first or "unknown"
    return K3sInstallation(
        role=role,
        version=_version(found["version"]),
        binary_sha256=digest.split()[0] if digest else None,
        architecture=ARCHITECTURES.get(machine, machine),
        unit_state=unit.get("ActiveState"),
        unit_enabled=unit.get("UnitFileState") == "enabled",
        main_pid=pid or None,
        config_sha256=config.split()[0] if config else None,
        uninstall_scripts=tuple(sorted(scripts)),
        stale=bool(pid) and _changed_since(unit["ExecMainStartTimestamp"], found["changed"].lines, role),
        foreign=bool(found["foreign"].lines),
        exec_start=_exec_start(found["exec"].lines),
        node_password=found["password"].status == 0,
        drained=found["drained"].status == 0,
    )


def _version(section: Section) -> str | None:
    """Given `k3s --version`, return the version: "k3s version v1.36.4+k3s1 (d38b0a1c)"."""
    matched = re.fullmatch(r"k3s version (v\S+)( \(.*\))?", section.first or "")
    return matched[1] if matched else None


def _units(section: Section) -> dict[str, dict[str, str]]:
    """Given blocks of `systemctl show`, return the properties of each unit by its role."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in section.text.split("\n\n") if block]
    roles = {f"{unit}.service": role for role, unit in UNITS.items()}
    return {roles[block["Id"]]: block for block in blocks if block.get("Id") in roles}


def _changed_since(started: str, changes: tuple[str, ...], role: str | None) -> bool:
    """Return True if a file that this role starts from has changed since its process was started."""
    moment = datetime.datetime.strptime(started, "%a %Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=datetime.UTC)
    others = [unit_file(other) for other in UNITS if other != role]
    times = (line.split(" ", 1) for line in changes)
    return any(
        float(seconds) > moment.timestamp()
        for seconds, path in times
        if not any(path.startswith(other) for other in others)
    )


def _exec_start(lines: tuple[str, ...]) -> str | None:
    """Given the lines of an ExecStart setting, continued by backslashes, return the command as one line."""
    command = " ".join(line.removesuffix("\\").strip() for line in lines).removeprefix("ExecStart=")
    return " ".join(command.split()) or None


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
        """Nothing was found."""
        return not (self.paths or self.mounts or self.processes or self.containers or self.links)

    @property
    def is_absence(self) -> bool:
        """It is known that there is nothing."""
        return self.is_empty and self.containers is not None


def read_leftovers(found: Sections) -> Leftovers:
    """Return what the sections of K3sLeftovers tell."""
    return Leftovers(
        paths=found["paths"].lines,
        mounts=found["mounts"].lines,
        processes=found["processes"].lines,
        containers=found["containers"].lines if found["containers"].status == 0 else None,
        links=found["links"].lines,
    )
