"""Plan of a restore: whether a backup fits a node, what is restored in which step, and what a person may see of it.

Pure functions of the manifest and of what the node has.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.k3s import KUBECONFIG, SERVER
from gb10.facts.reading.node import ARCHITECTURES, Identity
from gb10.facts.reading.reports import Refused
from gb10.operations.backups.accounts import NodeAccounts
from gb10.programs.archive.manifest import ROOT, Manifest, Member, shown

# Access, names and network first; then what runs on the node. sshd is last: from then on the node has its old host
# keys, and whoever knows only those of the new installation is refused.
STEPS = ("users", "identity", "network", "docker", "system", "extra", "k3s", "sshd")
# The parts that can be restored. "serving" and "inventory-of" only describe a node, and are no files of it.
RESTORABLE = ("identity", "users", "network", "docker", "k3s", "system", "extra")
TITLES = {
    "users": "accounts and their files",
    "identity": "the node's names",
    "network": "the network",
    "docker": "Docker's configuration",
    "system": "system settings",
    "extra": "further paths",
    "k3s": "K3s' configuration and state",
    "sshd": "the SSH host keys",
}
ACCOUNTS = "gb10/users.json"  # lines of passwd, shadow and group of the accounts of people
SSHD = "/etc/ssh"
HOST_KEYS = f"{SSHD}/ssh_host_"
NETPLAN = "/etc/netplan/"
# These belong to the installation: fstab names its disks, and a kubeconfig is written anew at each start.
NEVER = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/fstab", KUBECONFIG)
SNAP = re.compile(r"/etc/systemd/system/(.*/)?snap[-.].*\.(mount|service)")  # of packages that come back by themselves
UNITS = "/etc/systemd/system/"
UNIT_ENDS = (".service", ".timer", ".socket", ".mount", ".path")

# Nobody keeps a secret in these, so a diff may show them. Docker's settings, units, sources of apt and
# /etc/environment are not among them: they hold passwords of proxies and registries.
PUBLIC = (
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ssh/sshd_config",
    "/etc/ssh/sshd_config.d",
    "/etc/nvidia-container-runtime",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/etc/security/limits.conf",
    "/etc/security/limits.d",
    "/etc/modules-load.d",
    "/etc/modprobe.d",
    "/etc/udev/rules.d",
    "/etc/default/locale",
    "/etc/default/grub",
    "/etc/timezone",
)
PUBLIC_BYTES = 64 << 10  # of a text whose changes a diff shows
DIFFERENCES = {
    "absent": "is missing",
    "type": "is something else",
    "content": "has other content",
    "owner": "has another owner",
    "mode": "has another mode",
    "target": "leads elsewhere",
}
UFW = "the firewall goes on with its former rules; it takes over the restored ones with: sudo ufw reload"
TAKEN_OVER_BY = {
    "/etc/ufw/": UFW,
    "/etc/default/ufw": UFW,
    "/etc/NetworkManager/": "NetworkManager takes over its settings with: sudo systemctl reload NetworkManager",
    "/etc/systemd/network/": "systemd-networkd takes over its settings with: sudo networkctl reload",
    "/etc/default/grub": "the kernel takes over its restored command line with: sudo update-grub && sudo reboot",
}


# Whether a backup fits a node -----------------------------------------------------------------------------------------


def foreign(manifest: Manifest, node: str, identity: Identity) -> Iterator[Refused]:
    """Yield the reasons why a backup is of another node, or of another machine."""
    if manifest.node != node:
        yield Refused("RESTORE_OTHER_NODE", f"the backup {manifest.id} is of {manifest.node}")
    machine = manifest.about.get("machine") or {}
    architecture = machine.get("architecture")
    other = f"the backup {manifest.id} is of a machine with"
    if architecture and ARCHITECTURES.get(architecture, architecture) != identity.architecture:
        text = f"{other} {architecture}, and this has {identity.architecture}"
        yield Refused("RESTORE_OTHER_MACHINE", text)
    theirs, ours = _macs(machine.get("macs")), _macs(identity.macs)
    if theirs and ours and not theirs & ours:
        text = f"{other} the MACs {', '.join(sorted(theirs))}, and this has {', '.join(sorted(ours))}"
        yield Refused("RESTORE_OTHER_MACHINE", text)


def _macs(found: Any) -> set[str]:
    values = found.values() if isinstance(found, Mapping) else found or ()
    return {str(mac).lower() for mac in values}


def other_k3s(manifest: Manifest, installed: str | None, wanted: str) -> Iterator[Refused]:
    """Yield the refusal of K3s' state for another version than the installed or, without one, the wanted version."""
    version = (manifest.about.get("versions") or {}).get("k3s")
    found, verb = (installed, "has") if installed else (wanted, "is to get")
    if version and version != found:
        text = f"the backup {manifest.id} is of K3s {version}, and this node {verb} {found}"
        yield Refused("RESTORE_K3S_VERSION", text)


# What is restored -----------------------------------------------------------------------------------------------------


def select(manifest: Manifest, only: Sequence[str] | None) -> dict[str, list[Member]]:
    """Return the members that each step restores, of the wanted parts (None: all)."""
    steps: dict[str, list[Member]] = {step: [] for step in STEPS}
    for member in manifest.members:
        step = step_of(member)
        if step and (only is None or member.part in only):
            steps[step].append(member)
    return steps


def step_of(member: Member) -> str | None:
    """Return the step that restores a member, or None if it is never restored."""
    path = member.node_path
    if path is None or path in NEVER or SNAP.fullmatch(path):
        return None
    return "sshd" if path == SSHD or path.startswith(f"{SSHD}/") else member.part


def is_merged(member: Member) -> bool:
    """Return True if the node's own lines of a file stay as well: a key that opens the node now must still do so."""
    return member.type == "f" and (member.node_path or "").endswith("/.ssh/authorized_keys")


def is_in_server(member: Member) -> bool:
    """Return True if a member belongs to the K3s server, whose folder is put in place as a whole."""
    path = str(member.node_path)
    return path == SERVER or path.startswith(f"{SERVER}/")


def server_marks(members: Sequence[Member]) -> list[Member]:
    """Return the members that identify the K3s server of the backup: its CA, and that it has a datastore.

    A datastore lives on: one of the same cluster is never put back to an older state.
    """
    marks = (f"{SERVER}/tls/server-ca.crt", f"{SERVER}/db/state.db")
    return [member for member in members if member.node_path in marks]


def restored_units(members: Sequence[Member]) -> list[str]:
    """Return the systemd units among restored files that an administrator added: enabled ones are started."""
    paths = [str(member.node_path) for member in members if member.type == "f"]
    units = [path.removeprefix(UNITS) for path in paths if path.startswith(UNITS)]
    return [unit for unit in units if "/" not in unit and "@" not in unit and unit.endswith(UNIT_ENDS)]


def not_in_force(paths: Sequence[str]) -> list[str]:
    """Return the commands, with their reasons, that a person has to type before restored settings take effect."""
    found = [text for folder, text in TAKEN_OVER_BY.items() if any(path.startswith(folder) for path in paths)]
    return list(dict.fromkeys(found))


# The node compared with the backup ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """The answer of programs/backups/differences.py: how the node differs from the backup."""

    different: Mapping[str, Sequence[str]]  # path -> how it differs, and the sha256 of other content
    accounts: NodeAccounts
    free: int  # bytes, where the backup is unpacked
    left: bool = False  # a killed restore has left its backup there
    readable: frozenset[str] = frozenset()  # differing files that everybody on the node can read


def read_comparison(found: Mapping[str, Any]) -> Comparison:
    """Read the answer of differences:compare. Raise ODD_ERRORS for anything else."""
    accounts = found["accounts"]
    groups = {name: (int(gid), tuple(members)) for name, (gid, members) in accounts["groups"].items()}
    return Comparison(
        different={path: tuple(how) for path, how in found["different"].items()},
        accounts=NodeAccounts(accounts["users"], groups, frozenset(accounts["busy"])),
        free=int(found["free"]),
        left=bool(found["left"]),
        readable=frozenset(found["open"]),
    )


def wanted(member: Member, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what programs/backups/differences.py compares a path of the node with."""
    assert member.node_path is not None  # noqa: S101 - what has no path on the node is in no step
    found: dict[str, Any] = {
        "path": member.node_path,
        "type": member.type,
        "mode": member.mode,
        "owner": vars(member.owner),
        "size": member.size,
        "sha256": member.sha256,
        "target": member.target.removeprefix(ROOT) if member.type == "h" else member.target,
    }
    if member.node_path == f"{SERVER}/db/state.db":
        found["any"] = True
    if is_merged(member) and member.path in contents:
        found["lines"] = contents[member.path].decode(errors="surrogateescape").splitlines()
    return found


# What a person may see of a difference: of secrets no more than a digest ----------------------------------------------


def public_texts(members: Sequence[Member]) -> frozenset[str]:
    """Return the paths of files in a backup that a diff may show: everybody could read them."""
    closed = {member.node_path for member in members if member.type == "d" and not member.mode & 0o001}
    return frozenset(
        path
        for member in members
        if (path := member.node_path)
        and member.type == "f"
        and member.mode & 0o004
        and member.size <= PUBLIC_BYTES
        and any(path == place or path.startswith(f"{place}/") for place in PUBLIC)
        and not any(path.startswith(f"{folder}/") for folder in closed)
    )


def may_show(path: str, how: str, public: Collection[str], readable: Collection[str]) -> bool:
    """Return True if a diff may show the change of a file: neither its old nor its new text is closed to anybody.

    + how: a key of DIFFERENCES
    + public, readable: the paths of the backup, and of the node, that everybody can read
    """
    return path in public and (how == "absent" or (how == "content" and path in readable))


def described(path: str, difference: Sequence[str], sha256: str) -> str:
    """Return a line that says how a path differs; other content is named by its digest alone."""
    text = DIFFERENCES[difference[0]]
    if difference[0] == "content" and len(difference) > 1:
        text += f": sha256 {difference[1][:12]}, in the backup {sha256[:12]}"
    return f"{shown(path)} {text}"
