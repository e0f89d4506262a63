"""Text files on a node: replaced as a whole or not at all, and shown by --diff."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

from pyinfra.api import StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state
from pyinfra.operations.util.files import generate_color_diff

from gb10.facts.file import MaskedFile, TextFile
from gb10.facts.reading.reports import report
from gb10.operations.kit.failures import guarded, known
from gb10.operations.kit.reports import Diff


@operation()
@guarded
def text_file(
    path: str, content: str, mode: str = "644", user: str = "root", group: str = "root"
) -> Generator[StringCommand, None, None]:
    """
    Keep a text file.

    + path: absolute path on the node; missing folders are made
    + content: the whole text, with its final newline
    + mode: octal, as chmod takes it
    + user, group: who owns it

    A reader sees the old text or the new one, never half of it. Not for secrets: see gb10.operations.secret.
    """
    current = known(TextFile, path=path)
    if current and current.content == content and (current.mode, current.owner, current.group) == (mode, user, group):
        host.noop(f"{path} is as wanted")
        return
    if state.config.DIFF:
        show_diff(path, current.content if current else "", content)
    yield replace_file(path, content, mode, user, group)


@operation()
@guarded
def masked_file(
    path: str, content: str, mode: str = "644", user: str = "root", group: str = "root"
) -> Generator[StringCommand, None, None]:
    """
    Keep a text file of K3s in whose place somebody else's may stand, with secrets in it: those are shown nowhere.

    + path, content, mode, user, group: as for `text_file`
    """
    current = known(MaskedFile, path=path)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if current and (current.sha256, current.mode, current.owner, current.group) == (digest, mode, user, group):
        host.noop(f"{path} is as wanted")
        return
    if state.config.DIFF:
        show_diff(path, current.shown if current else "", content)
    yield replace_file(path, content, mode, user, group)


def show_diff(path: str, old: str, new: str) -> None:
    """Report what a new text would change, as pyinfra does for its own files."""
    lines = generate_color_diff(old.splitlines(keepends=True), new.splitlines(keepends=True))
    report(host, Diff(path, not old, tuple(line.rstrip("\n") for line in lines)))


def replace_file(path: str, content: str, mode: str, user: str = "root", group: str = "root") -> StringCommand:
    """Given a text, return the command that writes it beside the file, syncs it, and renames it over the file."""
    folder, new = QuoteString(path.rpartition("/")[0]), QuoteString(f"{path}.new")
    return StringCommand(
        StringCommand("umask 022; mkdir -p", folder, "&& umask 077 && cat >", new),
        StringCommand(f"chown {user}:{group}", new),
        StringCommand(f"chmod {mode}", new),
        StringCommand("sync", new),
        StringCommand("mv -f", new, QuoteString(path)),
        _separator=" && ",
        _stdin=content,
    )
