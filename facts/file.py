"""Text files on a node, with what an operation must know before it replaces one."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.command import QuoteString

from gb10.facts.reading.launcher import understood
from gb10.facts.reading.masking import masked
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class TextFileState(FactValue):
    """A regular file and its content."""

    mode: str  # octal, as stat prints it: "644"
    owner: str
    group: str
    content: str


class TextFile(FactBase[TextFileState | None]):
    """The text file at `path`, or None where there is no such file.

    Raises FactProcessError for the host whose output is not understood. Not for secrets: see gb10.facts.secret.
    """

    def command(self, path: str) -> StringCommand:
        file = QuoteString(path)
        # The full stop keeps the final newlines of the file apart from those of the print.
        return StringCommand("test -e", file, "|| exit 0;", "stat -L -c '%a %U %G'", file, "&& cat", file, "&& echo .")

    @understood
    def process(self, output: list[str]) -> TextFileState:
        mode, owner, group = output[0].split()
        content = "\n".join(output[1:])
        if not content.endswith("."):
            raise ValueError("the end of the file is missing")
        return TextFileState(mode=mode, owner=owner, group=group, content=content.removesuffix("."))


@dataclass(frozen=True)
class MaskedFileState(FactValue):
    """A regular file that may hold secrets of others: what it is by its digest, and what may be shown of it."""

    mode: str  # octal, as stat prints it: "644"
    owner: str
    group: str
    sha256: str
    shown: str  # its text with the secrets masked


class MaskedFile(FactBase[MaskedFileState | None]):
    """The file of K3s at `path`, or None where there is no such file. Its secrets do not leave the node.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, path: str) -> StringCommand:
        file = QuoteString(path)
        stat = StringCommand("stat -L -c '%a %U %G'", file, "&& sha256sum <", file)
        return StringCommand("test -e", file, "|| exit 0;", stat, "&&", masked(path), "&& echo .")

    @understood
    def process(self, output: list[str]) -> MaskedFileState:
        mode, owner, group = output[0].split()
        sha256, _ = output[1].split()
        shown = "\n".join(output[2:])
        if not shown.endswith("."):
            raise ValueError("the end of the file is missing")
        return MaskedFileState(mode=mode, owner=owner, group=group, sha256=sha256, shown=shown.removesuffix("."))
