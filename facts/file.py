"""Text files on a node, with what an operation must know before it replaces one."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.command import QuoteString

from gb10.facts.sections import understood
from gb10.facts.values import FactValue


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
