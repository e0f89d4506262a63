"""Accounts of a backup: the commands that create them on a node with their old numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gb10.facts.reading.reports import Refused

SYSTEM_NUMBERS = 1000  # below it numbers belong to the installation

Groups = Mapping[str, tuple[int, tuple[str, ...]]]  # name -> number and members
Command = tuple[str, ...]


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
    """What gives a node the backup's accounts with their old numbers."""

    commands: tuple[Command, ...] = ()
    created: tuple[str, ...] = ()  # accounts that get their old password
    refusals: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class NodeAccounts:
    """The accounts that a node has."""

    users: Mapping[str, int] = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)
    busy: frozenset[int] = frozenset()  # numbers of users who have processes


def read_accounts(passwd: str) -> list[Account]:
    """Return the accounts in lines of passwd. Raise ValueError for a line that is not understood."""
    found = []
    for line in passwd.splitlines():
        name, _, uid, gid, comment, home, shell = line.split(":")
        found.append(Account(name, int(uid), int(gid), comment, home, shell))
    return found


def read_groups(group: str) -> Groups:
    """Return the groups in lines of group. Raise ValueError for a line that is not understood."""
    found = {}
    for line in group.splitlines():
        name, _, gid, members = line.split(":")
        found[name] = (int(gid), tuple(filter(None, members.split(","))))
    return found


def plan_accounts(accounts: Sequence[Account], groups: Groups, node: NodeAccounts) -> AccountPlan:
    """Plan how a node gets the backup's accounts and groups with their numbers.

    What exists stays: only its number changes, if no process of the user runs.
    """
    own = {name: gid for name, (gid, _) in groups.items() if gid >= SYSTEM_NUMBERS}
    people = [account for account in accounts if account.uid >= SYSTEM_NUMBERS]
    gids, uids = {name: gid for name, (gid, _) in node.groups.items()}, node.users
    taken_gids, taken_uids = {gid: name for name, gid in gids.items()}, {uid: name for name, uid in uids.items()}
    found: list[Command | Refused | None] = [
        _number("group", name, gid, gids.get(name), taken_gids.get(gid, name)) for name, gid in own.items()
    ]
    created: list[str] = []
    for account in people:
        have, owner = uids.get(account.name), taken_uids.get(account.uid, account.name)
        if have is None and owner == account.name:
            found.append(_useradd(account))
            created.append(account.name)
        else:
            found.append(_number("user", account.name, account.uid, have, owner, have in node.busy))
    there = {**dict.fromkeys(own, ()), **{name: members for name, (_, members) in node.groups.items()}}
    found += _memberships(accounts, groups, there)
    commands = tuple(one for one in found if isinstance(one, tuple))
    return AccountPlan(commands, tuple(created), tuple(one for one in found if isinstance(one, Refused)))


def _number(
    kind: str, name: str, number: int, have: int | None, owner: str, busy: bool = False
) -> Command | Refused | None:
    """Return the command that gives a group or user its number, a refusal, or None if it has it.

    + have: its present number; None for a group that the node lacks
    + owner: the one that has the number now
    """
    if have == number:
        return None
    had = f"{kind} {name} had the number {number}"
    if owner != name:
        return Refused("RESTORE_NUMBERS", f"{had}, which {owner} has on this node")
    if have is None:
        return ("groupadd", "--gid", str(number), name)
    if busy:
        return Refused("RESTORE_NUMBERS", f"{had}, has {have} now, and is at work")
    return (f"{kind}mod", "--uid" if kind == "user" else "--gid", str(number), name)


def _useradd(account: Account) -> Command:
    numbers = ("--uid", str(account.uid), "--gid", str(account.gid))
    return (
        *("useradd", *numbers, "--comment", account.comment, "--create-home"),
        *("--home-dir", account.home, "--shell", account.shell, account.name),
    )


def _memberships(
    accounts: Sequence[Account], groups: Groups, there: Mapping[str, tuple[str, ...]]
) -> Iterator[Command]:
    """Yield commands that put accounts into the groups they were in, by name, if the node has those.

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
