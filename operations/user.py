"""Accounts of a node: created if missing, given what they lack; nothing is taken from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.file import TextFile
from gb10.facts.node import UserAccount
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.scripts import run_script, write_checked

SHELL = "/bin/bash"
WRITE_SECONDS = 30


@operation()
def account(user: str) -> Commands:
    """Create an account with a home and a shell. An existing one stays as it is."""
    if known(UserAccount, user=user):
        host.noop(f"{user} has an account")
        return
    yield StringCommand("useradd --create-home --shell", SHELL, QuoteString(user))


@operation()
def authorized_keys(user: str, keys: Sequence[str]) -> Commands:
    """Authorize public keys, as lines of authorized_keys, to log in to an account. Other keys stay."""
    found = known(UserAccount, user=user)
    if found is None:
        yield StringCommand("true")  # in a dry run before the account exists: the run will write them
        return
    lines = with_keys(found.authorized_keys or (), keys)
    if lines == list(found.authorized_keys or ()):
        host.noop(f"{user} has the keys")
        return
    arguments, folder = (user, found.group), f"{found.home}/.ssh"
    content = {"keys": "".join(f"{line}\n" for line in lines)}
    yield run_script(
        "authorize-keys.sh", *arguments, folder, seconds=WRITE_SECONDS, variables=content, guarded=[folder]
    )


def with_keys(lines: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Return the lines of an authorized_keys file with missing keys added. Comments and options may differ."""
    result = list(lines)
    for key in keys:
        blob = key.split()[1]
        if not any(blob in line.split() for line in result):
            result.append(key.strip())
    return result


@operation()
def group_member(user: str, group: str) -> Commands:
    """Add an account to an existing group."""
    found = known(UserAccount, user=user)
    if found and group in found.groups:
        host.noop(f"{user} is in group {group}")
        return
    yield StringCommand("usermod --append --groups", group, QuoteString(user))


@operation()
def sudo_rule(user: str) -> Commands:
    """
    Keep a rule that lets an account use sudo without a password, checked by visudo before it is in place.

    Other rules stay. Each account has a file of its own, so that one cannot lock out another.
    """
    path, content = sudo_file(user), f"{user} ALL=(ALL) NOPASSWD: ALL\n"
    current = known(TextFile, path=path)
    if current and (current.content, current.mode, current.owner) == (content, "440", "root"):
        host.noop(f"{user} may use sudo")
        return
    yield write_checked(path, content, "440", "visudo -cf", "SUDOERS_REJECTED", replace=True)


def sudo_file(user: str) -> str:
    """Return the file with the rule of an account. sudo ignores file names with a full stop."""
    return f"/etc/sudoers.d/90-gb10-{user.replace('.', '_')}"
