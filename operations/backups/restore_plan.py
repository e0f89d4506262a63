"""What a restore is to do on a node: planned from the manifest and from what the node has, without touching either."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.k3s import KUBECONFIG, SERVER
from gb10.operations.backups.accounts import NodeAccounts
from gb10.operations.backups.parts import SSHD, STEPS
from gb10.programs.archive.manifest import ROOT, Manifest, Member

# Of the installation, and not of the node; fstab names its disks, and a kubeconfig is written anew at each start.
NEVER = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/fstab", KUBECONFIG)
SNAP = re.compile(r"/etc/systemd/system/(.*/)?snap[-.].*\.(mount|service)")  # of packages that come back by themselves
AUTHORIZED_KEYS = "/.ssh/authorized_keys"
UNITS = "/etc/systemd/system/"
ODD_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
UNIT_ENDS = (".service", ".timer", ".socket", ".mount", ".path")


@dataclass(frozen=True)
class NodeLook:
    """What a look at the node found: see programs/backups/differences.py."""

    different: Mapping[str, Sequence[str]]  # path -> how it differs, and the sha256 of other content
    accounts: NodeAccounts
    free: int  # bytes, where the backup is unpacked
    left: bool = False  # a restore that was killed has left its backup there
    open: frozenset[str] = frozenset()  # files among what differs that everybody on the node can read


def read_look(found: Mapping[str, Any]) -> NodeLook:
    """Given the answer of differences:compare, return what it found. Raise ODD_ERRORS for anything else."""
    told = found["accounts"]
    groups = {name: (int(gid), tuple(members)) for name, (gid, members) in told["groups"].items()}
    return NodeLook(
        different={path: tuple(how) for path, how in found["different"].items()},
        accounts=NodeAccounts(told["users"], groups, frozenset(told["busy"])),
        free=int(found["free"]),
        left=bool(found["left"]),
        open=frozenset(found["open"]),
    )


@dataclass(frozen=True)
class Selection:
    """The members of a backup that are to be restored, by step."""

    steps: Mapping[str, tuple[Member, ...]] = field(default_factory=dict)

    def __getitem__(self, step: str) -> tuple[Member, ...]:
        return self.steps.get(step, ())

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, in the order of the steps."""
        return tuple(member for step in STEPS for member in self[step])


def step_of(member: Member) -> str | None:
    """Given a member, return the step that restores it, or None for what is never restored."""
    path = member.node_path
    if path is None or path in NEVER or SNAP.fullmatch(path):
        return None
    return "sshd" if path == SSHD or path.startswith(f"{SSHD}/") else member.part


def select(manifest: Manifest, only: Sequence[str] | None) -> Selection:
    """Given a manifest and the parts that are wanted (None: all), return what is to be restored."""
    steps: dict[str, list[Member]] = {}
    for member in manifest.members:
        step = step_of(member)
        if step and (only is None or member.part in only):
            steps.setdefault(step, []).append(member)
    return Selection({step: tuple(members) for step, members in steps.items()})


def wanted(member: Member, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """Given a member, return what programs/backups/differences.py compares a path of the node with."""
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


def is_merged(member: Member) -> bool:
    """Return True if the node's own lines of a file stay as well: a key that opens the node now must still do so."""
    return member.type == "f" and (member.node_path or "").endswith(AUTHORIZED_KEYS)


def server_marks(members: Sequence[Member]) -> list[Member]:
    """Return the members that tell whether a K3s server is that of the backup: its CA, and that it has a datastore.

    A datastore lives on: one of the same cluster is never put back to an older state.
    """
    return [
        member for member in members if member.node_path in (f"{SERVER}/tls/server-ca.crt", f"{SERVER}/db/state.db")
    ]


def in_server(member: Member) -> bool:
    """Return True if a member belongs to the K3s server, whose folder is put in place as a whole."""
    path = str(member.node_path)
    return path == SERVER or path.startswith(f"{SERVER}/")


def restored_units(members: Sequence[Member]) -> list[str]:
    """Return the units of systemd that an administrator added, among restored files: those enabled are started."""
    paths = [str(member.node_path) for member in members if member.type == "f"]
    units = [path.removeprefix(UNITS) for path in paths if path.startswith(UNITS)]
    return [unit for unit in units if "/" not in unit and "@" not in unit and unit.endswith(UNIT_ENDS)]


def not_in_force(paths: Sequence[str]) -> list[str]:
    """Given paths that were restored, return what a person has to type so that their settings are taken over."""
    found = [words for folder, words in _TAKEN_OVER.items() if any(path.startswith(folder) for path in paths)]
    return list(dict.fromkeys(found))


_UFW = "the firewall goes on with its former rules; it takes over the restored ones with: sudo ufw reload"
_TAKEN_OVER = {
    "/etc/ufw/": _UFW,
    "/etc/default/ufw": _UFW,
    "/etc/NetworkManager/": "NetworkManager takes over its settings with: sudo systemctl reload NetworkManager",
    "/etc/systemd/network/": "systemd-networkd takes over its settings with: sudo networkctl reload",
    "/etc/default/grub": "the kernel takes over its restored command line with: sudo update-grub && sudo reboot",
}
