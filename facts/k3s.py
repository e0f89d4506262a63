"""K3s on a node: what is installed, what runs, and the token, which nobody sees.

Paths and names are those of the official install script (k3s-io/k3s, install.sh).
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

import yaml
from pyinfra.api import FactBase, StringCommand

from gb10.facts.identity import ARCHITECTURES
from gb10.facts.reading.masking import masked
from gb10.facts.reading.sealed import Secret, seal, unseal
from gb10.facts.reading.sections import Section, read_sections, sections, understood
from gb10.facts.reading.values import FactValue

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


def env_file(role: str) -> str:
    """Given a role, return the path of the environment file that its unit reads."""
    return f"{unit_file(role)}.env"


@dataclass(frozen=True)
class K3sInstallation(FactValue):
    """What of K3s is on a node, whole or half."""

    role: str | None  # "server" or "agent", by the unit that is there
    version: str | None  # "v1.36.4+k3s1"; None without a binary that answers
    binary_sha256: str | None
    architecture: str  # of the machine: "arm64", "amd64", or what uname says
    unit_state: str | None  # systemd's ActiveState: "active", "activating", "failed" ...
    unit_enabled: bool
    main_pid: int | None
    config_sha256: str | None
    uninstall_scripts: tuple[str, ...]
    stale: bool  # the running process is older than a file that it was started from
    foreign: bool  # somebody else wrote the unit: see ForeignK3s
    exec_start: str | None  # the unit's command line: flags, when somebody else installed it
    node_password: bool  # the node has joined a cluster since it was installed
    drained: bool  # an upgrade drained the node and has not yet put it back

    @property
    def is_active(self) -> bool:
        return self.unit_state == "active"


class K3sInstall(FactBase[K3sInstallation | None]):
    """What of K3s is on the node, or None where there is nothing of it.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        started_from = " ".join((BINARY, CONFIG, REGISTRIES, TOKEN_FILE))
        units = " ".join(f"{unit_file(role)} {env_file(role)}" for role in UNITS)
        # Some install K3s with its token as a flag: it is masked before anything is printed.
        units_text = masked(*map(unit_file, UNITS)).get_raw_value()
        properties = "Id,LoadState,ActiveState,UnitFileState,MainPID,ExecMainStartTimestamp"
        return sections(
            {
                "version": f"{BINARY} --version",
                "binary": f"sha256sum {BINARY}",
                "machine": "uname -m",
                "config": f"sha256sum {CONFIG}",
                "units": f"systemctl show --timestamp=us+utc -p {properties} k3s.service k3s-agent.service",
                "exec": f"{units_text} 2>/dev/null | sed -n '/^ExecStart=/,/[^\\\\]$/p'",
                "foreign": f"grep -L 'Written by pyinfra-gb10' {' '.join(map(unit_file, UNITS))}; true",
                "scripts": f"ls -1 {KILLALL} {UNINSTALL['server']} {UNINSTALL['agent']} 2>/dev/null; true",
                "changed": f"stat -L -c '%.6Z %n' {started_from} {units}; true",
                "state": "ls -1d /var/lib/rancher/k3s; true",
                "password": f"test -s {NODE_PASSWORD}",
                "drained": f"test -e {DRAINED}",
            }
        )

    @understood
    def process(self, output: list[str]) -> K3sInstallation | None:
        found = read_sections(output)
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
    """Tell whether one of the files that this role starts from has changed since the process was started."""
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
    """How K3s is set up on a node beside its flags: keys of config.yaml, and the names of variables."""

    config: dict[str, Any]  # secrets in it are masked
    variables: tuple[str, ...]  # of the unit's environment file, but for those that /etc/default has as well


class ForeignK3s(FactBase[ForeignSettings]):
    """What the K3s that somebody else installed reads in a role. Its secrets do not leave the node.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, role: str) -> StringCommand:
        names = "sed -n 's/^[[:space:]]*\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'"
        return sections(
            {
                "config": f"test ! -e {CONFIG} || {masked(CONFIG).get_raw_value()}",
                "variables": f"{names} {env_file(role)}; true",
                "defaults": f"{names} /etc/default/{UNITS[role]}; true",
            }
        )

    @understood
    def process(self, output: list[str]) -> ForeignSettings:
        found = read_sections(output)
        config = yaml.safe_load(found["config"].text) or {}
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} is no mapping")
        variables = dict.fromkeys(found["variables"].lines)
        kept = [name for name in variables if name not in found["defaults"].lines]
        return ForeignSettings(config={str(key): value for key, value in config.items()}, variables=tuple(kept))


class K3sToken(FactBase[Secret | None]):
    """The token with which agents join, hidden; None where the node has none.

    The server's node-token (docs.k3s.io/cli/token). It leaves the node encrypted: see gb10.facts.reading.sealed.
    """

    def command(self) -> StringCommand:
        path = f"{SERVER}/node-token"
        return sections({"token": f"test -s {path} || exit 44; {seal(f'cat {path}')}"})

    @understood
    def process(self, output: list[str]) -> Secret | None:
        section = read_sections(output)["token"]
        return None if section.status == 44 else Secret(unseal(section.lines).strip())


class Kubeconfig(FactBase[Secret | None]):
    """The administrator's kubeconfig, hidden; None where the node has none. It leaves the node encrypted."""

    def command(self) -> StringCommand:
        return sections({"kubeconfig": f"test -s {KUBECONFIG} || exit 44; {seal(f'cat {KUBECONFIG}')}"})

    @understood
    def process(self, output: list[str]) -> Secret | None:
        section = read_sections(output)["kubeconfig"]
        return None if section.status == 44 else Secret(unseal(section.lines))


@dataclass(frozen=True)
class Leftovers(FactValue):
    """What a teardown has still to remove."""

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


class K3sLeftovers(FactBase[Leftovers]):
    """All that K3s leaves on a node: paths, mounts, processes, labelled Docker containers, CNI interfaces.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        files = (BINARY, KILLALL, *UNINSTALL.values(), *map(unit_file, UNITS), *map(env_file, UNITS))
        folders = (
            "/etc/rancher/k3s",
            "/etc/rancher/node",
            "/var/lib/kubelet",
            "/run/k3s",
            "/run/flannel",
            "/var/lib/rancher/k3s",
            STATE,
        )
        parts = ("/usr/local/bin/k3s.*part*", "/usr/local/bin/k3s.sums*", "/usr/local/bin/k3s*.new")
        new = (f"{file(role)}.new" for file in (unit_file, env_file) for role in UNITS)
        links = ("cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6", "kube-ipvs0")
        label = "--filter label=io.kubernetes.pod.namespace"
        return sections(
            {
                "paths": f"ls -1d {' '.join((*files, *folders, *parts, *new))}; true",
                "mounts": "awk '$5 ~ \"^/(var/lib/(rancher|kubelet)|run/k3s)(/|$)\" {print $5}' /proc/self/mountinfo",
                "processes": "pgrep -a -f '^(/usr/local/bin/k3s|/var/lib/rancher/k3s/data/)'; true",
                "containers": "command -v docker >/dev/null || exit 0; "
                f"timeout 10 docker ps -a {label} --format '{{{{.ID}}}} {{{{.Names}}}}'",
                "links": f"ls -1 /sys/class/net | grep -x -F {' '.join(f'-e {link}' for link in links)}; true",
            }
        )

    @understood
    def process(self, output: list[str]) -> Leftovers:
        found = read_sections(output)
        return Leftovers(
            paths=found["paths"].lines,
            mounts=found["mounts"].lines,
            processes=found["processes"].lines,
            containers=found["containers"].lines if found["containers"].status == 0 else None,
            links=found["links"].lines,
        )
