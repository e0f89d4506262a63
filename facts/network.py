"""The network of a node: interfaces, netplan, listeners, firewall and SSH server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any, ClassVar

from gb10.facts.reading.launcher import Launch, ProgramFact, SectionsFact
from gb10.facts.reading.values import FactValue, Sections


@dataclass(frozen=True)
class Interface(FactValue):
    """One interface."""

    mtu_bytes: int
    up: bool  # it has a carrier
    addresses: tuple[str, ...]  # with prefix length; not the link-local ones of IPv6


class Interfaces(SectionsFact[dict[str, Interface]]):
    """Name -> interface."""

    commands: ClassVar = {"ip": "ip -j addr"}

    def read_sections(self, found: Sections) -> dict[str, Interface]:
        return {
            row["ifname"]: Interface(
                mtu_bytes=int(row["mtu"]),
                up=row["operstate"] == "UP",
                addresses=tuple(
                    str(ip_interface(f"{entry['local']}/{entry['prefixlen']}"))
                    for entry in row["addr_info"]
                    if entry.get("scope") != "link"
                ),
            )
            for row in json.loads("".join(found["ip"].printed))
            if row  # iproute2 leaves an empty object where a filter dropped an interface
        }


@dataclass(frozen=True)
class Netplan(FactValue):
    """The merged configuration, or the `error` with which netplan refused it."""

    renderer: str | None  # "networkd", "NetworkManager", or None where no file names one
    addresses: dict[str, tuple[str, ...]]  # interface -> static addresses
    error: str | None = None


class NetplanConfig(ProgramFact[Netplan | None]):
    """The netplan configuration of `interfaces`, or None if the node has no netplan.

    Needs root.
    """

    def command(self, interfaces: Sequence[str]) -> Launch:
        return Launch("gb10.programs.netplan_probe:main", {"interfaces": list(interfaces)})

    def read(self, answer: Any) -> Netplan | None:
        if answer is None:
            return None
        if answer["error"]:
            return Netplan(renderer=None, addresses={}, error=str(answer["error"]))
        addresses = {name: tuple(map(_address, entries)) for name, entries in answer["addresses"].items()}
        return Netplan(answer["renderer"], addresses)


def _address(entry: Any) -> str:
    """Given an address of netplan: "10.0.0.1/24", or an object of that one key with options."""
    text = next(iter(entry)) if isinstance(entry, dict) else entry
    return str(ip_interface(text))


# One look: a process that is started again between two of them would be without its unit.
LISTENERS = (
    'found=$(ss -H -l -t -n -p) || exit; echo "$found"; echo "$found" | '
    "grep -o 'pid=[0-9]*' | sort -u | sed 's|pid=|/proc/|; s|$|/cgroup|' | xargs -r grep -H ^; true"
)


@dataclass(frozen=True)
class Listener(FactValue):
    """A process that listens on a port."""

    process: str | None  # its name; None if ss does not show it
    unit: str | None  # the systemd unit that it belongs to: "k3s.service"; None where it is gone, or in none


class TcpListeners(SectionsFact[dict[int, Listener]]):
    """Port -> the process that listens on it."""

    commands: ClassVar = {"listeners": LISTENERS}

    def read_sections(self, found: Sections) -> dict[int, Listener]:
        lines = found["listeners"].printed
        units = dict(filter(None, map(_unit, lines)))
        return dict(_listener(line, units) for line in lines if line and not line.startswith("/proc/"))


def _unit(line: str) -> tuple[str, str] | None:
    """Given a process's line of cgroup v2, "/proc/812/cgroup:0::/system.slice/k3s.service", return its pid and unit."""
    matched = re.match(r"/proc/(\d+)/cgroup:0::(?:/[^/]+\.slice)*/([^/]+\.(?:service|scope|socket))(?:/|$)", line)
    return (matched[1], matched[2]) if matched else None


def _listener(line: str, units: dict[str, str]) -> tuple[int, Listener]:
    """Given a line of ss: state, two queues, local address:port, peer, users:(("name",pid=1,fd=3))."""
    port = int(line.split()[3].rpartition(":")[2])
    process = re.search(r'users:\(\("([^"]*)",pid=(\d+)', line)
    return port, Listener(process[1], units.get(process[2])) if process else Listener(None, None)


NOT_FOUND = 127
# ufw is Python, which would leave its bytecode on the node, and a fact writes nothing.
UFW = "PYTHONDONTWRITEBYTECODE=1 LC_ALL=C ufw"


@dataclass(frozen=True)
class Firewall(FactValue):
    """ufw's state and the rules that were added to it, in the words of its command line: "allow 22/tcp"."""

    active: bool
    rules: tuple[str, ...]


class UfwRules(SectionsFact[Firewall | None]):
    """The firewall, or None if the node has no ufw.

    Needs root.
    """

    commands: ClassVar = {"status": f"{UFW} status", "added": f"{UFW} show added"}

    def read_sections(self, found: Sections) -> Firewall | None:
        if found["status"].status == NOT_FOUND:
            return None
        status = dict(line.split(": ", 1) for line in found["status"].lines if line.startswith("Status: "))["Status"]
        lines = found["added"].lines
        return Firewall(
            active=status == "active",
            rules=tuple(line.removeprefix("ufw ") for line in lines if line.startswith("ufw ")),
        )


@dataclass(frozen=True)
class Sshd(FactValue):
    """The settings of `sshd -T`, outside of Match blocks."""

    ports: tuple[int, ...]
    passwords: bool  # passwords open a session, directly or by keyboard-interactive
    keys: bool  # keys open a session, also without our own file
    root_login: str  # PermitRootLogin, one of ROOT_LOGINS: the stricter of the values with and without our own file


# Values of PermitRootLogin, the most permissive first.
ROOT_LOGINS = ("yes", "prohibit-password", "forced-commands-only", "no")
SSHD_FILE = "/etc/ssh/sshd_config.d/00-gb10.conf"  # our own


class SshdConfig(SectionsFact[Sshd | None]):
    """The SSH server's configuration, or None without sshd, or if its files are broken.

    Needs root.
    """

    # sshd takes the first value that it finds, so our file hides those of others: for "others" it is replaced by an
    # empty one, in a mount namespace that only this command sees.
    commands: ClassVar = {
        "sshd": "sshd -T",
        "others": f"test -e {SSHD_FILE} || exec sshd -T; "
        f"exec unshare --mount sh -c 'mount --bind /dev/null {SSHD_FILE} && exec sshd -T'",
    }

    def read_sections(self, found: Sections) -> Sshd | None:
        if found["sshd"].status != 0:
            return None
        values, others = sshd_values(found["sshd"].lines), sshd_values(found["others"].printed)
        both = [values, others]
        return Sshd(
            ports=tuple(int(port) for port in values["port"]),
            passwords="yes" in values["passwordauthentication"] + values["kbdinteractiveauthentication"],
            keys=all(each["pubkeyauthentication"] == ["yes"] for each in both),
            root_login=max(map(root_login, both), key=ROOT_LOGINS.index),
        )


def sshd_values(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return key -> values of the output of `sshd -T`."""
    values: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        values.setdefault(key, []).append(value)
    return values


def root_login(values: Mapping[str, Sequence[str]]) -> str:
    """Return the value of PermitRootLogin under its present name. Raise ValueError if it is unknown."""
    value = values["permitrootlogin"][0].replace("without-password", "prohibit-password")
    return ROOT_LOGINS[ROOT_LOGINS.index(value)]
