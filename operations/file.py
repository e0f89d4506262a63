"""Files on a node: replaced as a whole or not at all; texts are shown by --diff, secrets nowhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from click import unstyle
from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.api.hiddenvalue import HiddenValue
from pyinfra.context import host, state
from pyinfra.operations.util.files import generate_color_diff

from gb10.facts.file import MaskedFile, SecretFile, SecretFileState, TextFile, TextFileState
from gb10.facts.reading.masking import masked_text
from gb10.facts.reading.reports import report
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.reports import Diff

BEGIN, END = "# BEGIN gb10", "# END gb10"  # marks of a block of lines


@operation()
def text_file(path: str, content: str, mode: str = "644", user: str = "root", group: str = "root") -> Commands:
    """
    Keep a text file.

    + path: absolute path on the node; missing folders are made
    + content: the whole text, with its final newline
    + mode: octal, as chmod takes it
    + user, group: who owns it

    A reader sees the old text or the new one, never half of it. Not for secrets: see `secret_file`.
    """
    current = known(TextFile, path=path)
    if current and current.content == content and (current.mode, current.owner, current.group) == (mode, user, group):
        host.noop(f"{path} is as wanted")
        return
    show_diff(path, current, content)
    yield replace_file(path, content, mode, user, group)


@operation()
def masked_file(path: str, content: str, mode: str = "644", user: str = "root", group: str = "root") -> Commands:
    """
    Keep a text file of K3s. The file in its place may be somebody else's, with secrets, which are shown nowhere.

    + path, content, mode, user, group: as for `text_file`
    """
    current = known(MaskedFile, path=path)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if current and (current.sha256, current.mode, current.owner, current.group) == (digest, mode, user, group):
        host.noop(f"{path} is as wanted")
        return
    show_diff(path, current.shown if current else "", content)
    yield replace_file(path, content, mode, user, group)


def show_diff(path: str, old: TextFileState | str | None, new: str) -> None:
    """Report what a new text changes in a file, as pyinfra does for its own files, if --diff asks for it.

    Values that look like secrets are masked in both.
    """
    if not state.config.DIFF:
        return
    old = old.content if isinstance(old, TextFileState) else old or ""
    before, after = (masked_text(text).splitlines(keepends=True) for text in (old, new))
    lines = map(unstyle, generate_color_diff(before, after))  # a colour would be shown as an escape
    report(host, Diff(path, not old, tuple(line.rstrip("\n") for line in lines)))


def replace_file(path: str, content: str, mode: str, user: str = "root", group: str = "root") -> StringCommand:
    """Return the command that writes a text beside a file, syncs it, and renames it over the file."""
    folder, new = QuoteString(path.rpartition("/")[0]), QuoteString(f"{path}.new")
    return StringCommand(
        StringCommand("umask 022; mkdir -p", folder, "&& umask 077 && rm -f", new, "&& cat >", new),
        StringCommand(f"chown {user}:{group}", new),
        StringCommand(f"chmod {mode}", new),
        StringCommand("sync", new),
        StringCommand("mv -f", new, QuoteString(path)),
        _separator=" && ",
        _stdin=content,
    )


@operation()
def text_block(path: str, lines: Sequence[str]) -> Commands:
    """Keep a block of lines between two marks in a file; its other lines stay."""
    file = known(TextFile, path=path)
    before = file.content if file else ""
    after = with_block(before, lines)
    if file and before == after:
        host.noop(f"{path} has the lines")
        return
    show_diff(path, before, after)
    mode, owner, group = (file.mode, file.owner, file.group) if file else ("644", "root", "root")
    yield replace_file(path, after, mode, owner, group)


def with_block(text: str, lines: Sequence[str]) -> str:
    """Return a text with these lines between the marks: where they stood before, or at its end."""
    block = "".join(f"{line}\n" for line in (BEGIN, *lines, END))
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if begin and end:
        return f"{before}{block}{after}"
    # Without one of the marks it is unknown which lines are ours: only the mark goes.
    kept = "".join(f"{line}\n" for line in text.splitlines() if line not in (BEGIN, END))
    return f"{kept}{block}"


@operation()
def secret_file(path: str, content: HiddenValue) -> Commands:
    """
    Keep a secret in a file that only root can read; a final newline is added if it has none.

    The file is never wider than 0600, not even while it is written, and a reader sees the old secret or the new one,
    never half of it.
    """
    wanted = content.unmask().removesuffix("\n") + "\n"
    found = known(SecretFile, path=path)
    if found == SecretFileState(hashlib.sha256(wanted.encode()).hexdigest(), mode="600", owner="root"):
        host.noop(f"{path} holds the wanted secret")
        return
    yield replace_file(path, wanted, "600")
