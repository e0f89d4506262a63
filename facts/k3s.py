"""K3s on a node: installation, settings of others, leftovers, and its secrets, hidden.

Paths and names are those of the official install script (k3s-io/k3s, install.sh).
"""

from __future__ import annotations

import datetime
import errno
import re
from typing import ClassVar

import yaml
from pyinfra.api.hiddenvalue import HiddenValue

from gb10.facts.reading.k3s import (
    BINARY,
    CONFIG,
    DRAINED,
    KILLALL,
    KUBECONFIG,
    NODE_PASSWORD,
    REGISTRIES,
    SERVER,
    STATE,
    TOKEN_FILE,
    UNINSTALL,
    UNITS,
    ForeignSettings,
    K3sInstallation,
    Leftovers,
    env_file,
    unit_file,
)
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.masking import masked
from gb10.facts.reading.node import ARCHITECTURES
from gb10.facts.reading.values import Section, Sections


class Secret(HiddenValue):
    """A HiddenValue that the pyinfra CLI can print: it prints the mask."""

    def __init__(self, value: str) -> None:
        super().__init__(value)  # type: ignore[no-untyped-call] # pyinfra leaves it untyped

    def to_json(self) -> str:
        return str(self)


class K3sInstall(SectionsFact[K3sInstallation | None]):
    """The K3s installation of the node, whole or half, or None if there is nothing of K3s."""

    def command(self) -> Launch:
        started_from = " ".join((BINARY, CONFIG, REGISTRIES, TOKEN_FILE))
        units = " ".join(f"{unit_file(role)} {env_file(role)}" for role in UNITS)
        # Some install K3s with its token as a flag: it is masked before anything is printed.
        units_text = masked(*map(unit_file, UNITS))
        properties = "Id,LoadState,ActiveState,UnitFileState,MainPID,ExecMainStartTimestamp"
        return self.sections(
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

    def read_sections(self, found: Sections) -> K3sInstallation | None:
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


class ForeignK3s(SectionsFact[ForeignSettings]):
    """Settings of a K3s that somebody else installed, by role. Its secrets do not leave the node."""

    def command(self, role: str) -> Launch:
        names = "sed -n 's/^[[:space:]]*\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'"
        return self.sections(
            {
                "config": f"test ! -e {CONFIG} || {masked(CONFIG)}",
                "variables": f"{names} {env_file(role)}; true",
                "defaults": f"{names} /etc/default/{UNITS[role]}; true",
            }
        )

    def read_sections(self, found: Sections) -> ForeignSettings:
        config = yaml.safe_load(found["config"].text) or {}
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} is no mapping")
        variables = dict.fromkeys(found["variables"].lines)
        kept = [name for name in variables if name not in found["defaults"].lines]
        return ForeignSettings(config={str(key): value for key, value in config.items()}, variables=tuple(kept))


class K3sToken(SectionsFact[Secret | None]):
    """The token with which agents join, hidden; None if the node has none.

    It is the server's node-token (docs.k3s.io/cli/token). No log shows what a program of ours answers.
    """

    files: ClassVar = {"token": f"{SERVER}/node-token"}

    def read_sections(self, found: Sections) -> Secret | None:
        text = _text(found["token"])
        return Secret(text.strip()) if text else None


class Kubeconfig(SectionsFact[Secret | None]):
    """The administrator's kubeconfig, hidden; None if the node has none."""

    files: ClassVar = {"kubeconfig": KUBECONFIG}

    def read_sections(self, found: Sections) -> Secret | None:
        text = _text(found["kubeconfig"])
        return Secret(text) if text else None


def _text(section: Section) -> str:
    """Return the text of a file; none if it is absent. Raise ValueError if it cannot be read."""
    return "" if section.status == errno.ENOENT else "".join(f"{line}\n" for line in section.printed)


class K3sLeftovers(SectionsFact[Leftovers]):
    """All that K3s leaves on a node: paths, mounts, processes, labelled Docker containers, CNI interfaces."""

    def command(self) -> Launch:
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
        return self.sections(
            {
                "paths": f"ls -1d {' '.join((*files, *folders, *parts, *new))}; true",
                "mounts": "awk '$5 ~ \"^/(var/lib/(rancher|kubelet)|run/k3s)(/|$)\" {print $5}' /proc/self/mountinfo",
                "processes": "pgrep -a -f '^(/usr/local/bin/k3s|/var/lib/rancher/k3s/data/)'; true",
                "containers": "command -v docker >/dev/null || exit 0; "
                f"timeout 10 docker ps -a {label} --format '{{{{.ID}}}} {{{{.Names}}}}'",
                "links": f"ls -1 /sys/class/net | grep -x -F {' '.join(f'-e {link}' for link in links)}; true",
            }
        )

    def read_sections(self, found: Sections) -> Leftovers:
        return Leftovers(
            paths=found["paths"].lines,
            mounts=found["mounts"].lines,
            processes=found["processes"].lines,
            containers=found["containers"].lines if found["containers"].status == 0 else None,
            links=found["links"].lines,
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
