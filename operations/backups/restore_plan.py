"""What a restore is to do on a node: planned from the manifest and from what the node has, without touching either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.identity import ARCHITECTURES, Identity
from gb10.facts.reading.k3s import KUBECONFIG, SERVER
from gb10.operations.preflight import Refusal
from gb10.programs.archive import ROOT, Manifest, Member, shown

# In this order: who may come in, what the node is called, how it is reached; then what runs there. sshd is the last:
# with its keys the node shows another face to everybody who knows only the one of its new installation.
STEPS = ("users", "identity", "network", "docker", "system", "extra", "k3s", "sshd")
# What can be restored. "serving" and "inventory-of" are written down about a node, and are no files of it.
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
SSHD = "/etc/ssh"
ACCOUNTS = "gb10/users.json"  # lines of passwd, shadow and group of the accounts of people
# Of the installation, and not of the node; fstab names its disks, and a kubeconfig is written anew at each start.
NEVER = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/fstab", KUBECONFIG)
SNAP = re.compile(r"/etc/systemd/system/(.*/)?snap[-.].*\.(mount|service)")  # of packages that come back by themselves
AUTHORIZED_KEYS = "/.ssh/authorized_keys"
# Where nobody keeps a secret: only of these a diff may show text. Docker's settings, units, sources of apt and
# /etc/environment are not among them, for they hold passwords of proxies and registries.
SHOWN = (
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
SHOWN_BYTES = 64 << 10  # of a text whose changes a diff shows
SYSTEM_NUMBERS = 1000  # below it the numbers of groups are the installation's own business
WORDS = {
    "absent": "is missing",
    "type": "is something else",
    "content": "has other content",
    "owner": "has another owner",
    "mode": "has another mode",
    "target": "leads elsewhere",
}


@dataclass(frozen=True)
class Account:
    """A line of passwd."""

    name: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str


@dataclass(frozen=True)
class AccountPlan:
    """What makes the backup's accounts exist with their old numbers."""

    commands: tuple[tuple[str, ...], ...] = ()
    created: tuple[str, ...] = ()  # accounts that get their old password
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class NodeLook:
    """What a look at the node found: see restore_node.py."""

    different: Mapping[str, Sequence[str]]  # path -> how it differs, and the sha256 of other content
    users: Mapping[str, int]
    groups: Mapping[str, tuple[int, tuple[str, ...]]]
    busy: frozenset[int]  # numbers of users who have processes
    free: int  # bytes, where the backup is unpacked
    left: bool = False  # a restore that was killed has left its backup there
    open: frozenset[str] = frozenset()  # files among what differs that everybody on the node can read


@dataclass(frozen=True)
class Selection:
    """The members of a backup that are to be restored, by step."""

    steps: Mapping[str, tuple[Member, ...]] = field(default_factory=dict)

    def __getitem__(self, step: str) -> tuple[Member, ...]:
        return self.steps.get(step, ())

    @property
    def members(self) -> tuple[Member, ...]:
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
    """Given a member, return what restore_node.py compares a path of the node with."""
    assert member.node_path is not None  # noqa: S101 - what has no path on the node is in no step
    found: dict[str, Any] = {
        "path": member.node_path,
        "type": member.type,
        "mode": member.mode,
        "uid": member.uid,
        "gid": member.gid,
        "user": member.user,
        "group": member.group,
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
    """Whether the node's own lines of a file stay as well: a key that opens the node now must go on doing so."""
    return member.type == "f" and (member.node_path or "").endswith(AUTHORIZED_KEYS)


def server_marks(members: Sequence[Member]) -> list[Member]:
    """The members that tell whether a K3s server is that of the backup: its CA, and that it has a datastore.

    A datastore lives on: one of the same cluster is never put back to an older state.
    """
    return [
        member for member in members if member.node_path in (f"{SERVER}/tls/server-ca.crt", f"{SERVER}/db/state.db")
    ]


def in_server(path: str) -> bool:
    """Whether a path belongs to the K3s server, whose folder is put in place as a whole."""
    return path == SERVER or path.startswith(f"{SERVER}/")


def public_texts(members: Sequence[Member]) -> frozenset[str]:
    """Given all members of a backup, return the paths of files that a diff may show: everybody could read them."""
    closed = {member.node_path for member in members if member.type == "d" and not member.mode & 0o001}
    return frozenset(
        path
        for member in members
        if (path := member.node_path)
        and member.type == "f"
        and member.mode & 0o004
        and member.size <= SHOWN_BYTES
        and any(path == place or path.startswith(f"{place}/") for place in SHOWN)
        and not any(path.startswith(f"{folder}/") for folder in closed)
    )


def described(member_path: str, difference: Sequence[str], sha256: str) -> str:
    """How a path differs, in words: its content by digest alone."""
    word = WORDS[difference[0]]
    if difference[0] == "content" and len(difference) > 1:
        word += f": sha256 {difference[1][:12]}, in the backup {sha256[:12]}"
    return f"{shown(member_path)} {word}"


def not_in_force(paths: Sequence[str]) -> list[str]:
    """Given paths that were restored, return what is to be typed for settings that nobody takes over by himself."""
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


# Who may get it -------------------------------------------------------------------------------------------------------


def foreign(manifest: Manifest, node: str, identity: Identity) -> Iterator[Refusal]:
    """Yield what says that a backup is of another node, or of another machine."""
    if manifest.node != node:
        yield Refusal("RESTORE_OTHER_NODE", f"the backup {manifest.id} is of {manifest.node}")
    machine = manifest.about.get("machine") or {}
    architecture = machine.get("architecture")
    if architecture and ARCHITECTURES.get(architecture, architecture) != identity.architecture:
        yield Refusal(
            "RESTORE_OTHER_MACHINE",
            f"the backup {manifest.id} is of a machine with {architecture}, and this has {identity.architecture}",
        )
    theirs, ours = _macs(machine.get("macs")), _macs(identity.macs)
    if theirs and ours and not theirs & ours:
        yield Refusal(
            "RESTORE_OTHER_MACHINE",
            f"the backup {manifest.id} is of a machine with the MACs {', '.join(sorted(theirs))}, and this has "
            f"{', '.join(sorted(ours))}",
        )


def unproven(backup: str, reasons: Sequence[str]) -> Refusal:
    """The refusal of a backup of which no copy is proven."""
    why = "; ".join(reasons) or "nobody has tried it"
    return Refusal("RESTORE_UNPROVEN", f"no copy of {backup} is proven: {why}")


def after_wipe(backup: str, former: str) -> Refusal:
    """The refusal of a backup that nobody named, and that was made between a wipe and the restore."""
    return Refusal(
        "RESTORE_AFTER_WIPE",
        f"the newest backup, {backup}, is of the new installation, with its host keys; {former} is of the one before",
    )


def _macs(found: Any) -> set[str]:
    values = found.values() if isinstance(found, Mapping) else found or ()
    return {str(mac).lower() for mac in values}


def other_k3s(manifest: Manifest, installed: str | None, wanted: str) -> Iterator[Refusal]:
    """Yield what says that K3s' state is of another version than the one that is, or is going to be, installed."""
    told = (manifest.about.get("versions") or {}).get("k3s")
    found, word = (installed, "has") if installed else (wanted, "is to get")
    if told and told != found:
        yield Refusal("RESTORE_K3S_VERSION", f"the backup {manifest.id} is of K3s {told}, and this node {word} {found}")


# Accounts -------------------------------------------------------------------------------------------------------------


def read_accounts(passwd: str) -> list[Account]:
    """Given lines of passwd, return the accounts. Raise ValueError for a line that is none."""
    found = []
    for line in passwd.splitlines():
        name, _, uid, gid, comment, home, shell = line.split(":")
        found.append(Account(name, int(uid), int(gid), comment, home, shell))
    return found


def read_groups(group: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Given lines of group, return the groups: number and members. Raise ValueError for a line that is none."""
    found = {}
    for line in group.splitlines():
        name, _, gid, members = line.split(":")
        found[name] = (int(gid), tuple(filter(None, members.split(","))))
    return found


def plan_accounts(
    accounts: Sequence[Account], groups: Mapping[str, tuple[int, tuple[str, ...]]], look: NodeLook
) -> AccountPlan:
    """Given the backup's accounts and groups, return what makes them exist on the node with their numbers.

    What exists stays: only its number changes, where nobody is at work under it.
    """
    commands: list[tuple[str, ...]] = []
    refusals: list[Refusal] = []
    created: list[str] = []
    own = {name: gid for name, (gid, _) in groups.items() if gid >= SYSTEM_NUMBERS}
    taken = {gid: name for name, (gid, _) in look.groups.items()}
    for name, gid in own.items():
        _plan_number(
            ("group", name, gid),
            look.groups[name][0] if name in look.groups else None,
            taken,
            commands,
            refusals,
            busy=False,
        )
    taken = {uid: name for name, uid in look.users.items()}
    for account in accounts:
        if account.uid < SYSTEM_NUMBERS:
            continue
        have = look.users.get(account.name)
        free = taken.get(account.uid, account.name) == account.name
        if have is None and free:
            commands.append(_useradd(account))
            created.append(account.name)
        else:
            _plan_number(("user", account.name, account.uid), have, taken, commands, refusals, busy=have in look.busy)
    there = {**dict.fromkeys(own, ()), **{name: members for name, (_, members) in look.groups.items()}}
    commands += _memberships(accounts, groups, there)
    return AccountPlan(tuple(commands), tuple(created), tuple(refusals))


def _plan_number(
    what: tuple[str, str, int],
    have: int | None,
    taken: Mapping[int, str],
    commands: list[tuple[str, ...]],
    refusals: list[Refusal],
    busy: bool,
) -> None:
    kind, name, number = what
    if have == number:
        return
    other = taken.get(number, name)
    if other != name:
        refusals.append(
            Refusal("RESTORE_NUMBERS", f"{kind} {name} had the number {number}, which {other} has on this node")
        )
    elif have is None:
        commands.append(("groupadd", "--gid", str(number), name))
    elif busy:
        refusals.append(
            Refusal("RESTORE_NUMBERS", f"{kind} {name} had the number {number}, has {have} now, and is at work")
        )
    else:
        option = "--uid" if kind == "user" else "--gid"
        commands.append((f"{kind}mod", option, str(number), name))


def _useradd(account: Account) -> tuple[str, ...]:
    numbers = ("--uid", str(account.uid), "--gid", str(account.gid))
    return (
        *("useradd", *numbers, "--comment", account.comment, "--create-home"),
        *("--home-dir", account.home, "--shell", account.shell, account.name),
    )


def _memberships(
    accounts: Sequence[Account],
    groups: Mapping[str, tuple[int, tuple[str, ...]]],
    there: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[str, ...]]:
    """Commands that put accounts into the groups they were in, by name, where the node has those.

    + there: the members of each group that the node has, or will have by then
    """
    for account in accounts:
        missing = [
            name
            for name, (_, members) in groups.items()
            if account.name in members and name in there and account.name not in there[name]
        ]
        if missing:
            yield ("usermod", "--append", "--groups", ",".join(sorted(missing)), account.name)
