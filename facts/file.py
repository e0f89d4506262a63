"""Text files on a node, with their mode and owner."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.masking import masked
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

STAT = "stat -L -c '%a %U %G'"
END = "."  # keeps the final newlines of a file apart from those of the print


@dataclass(frozen=True)
class TextFileState(FactValue):
    """A regular file and its content."""

    mode: str  # octal, as stat prints it: "644"
    owner: str
    group: str
    content: str


class TextFile(SectionsFact[TextFileState | None]):
    """The text file at `path`, or None if there is none.

    Raises FactProcessError for the host whose output is not understood. Not for secrets: see gb10.facts.secret.
    """

    def command(self, path: str) -> Launch:
        file = shlex.quote(path)
        return self.sections({"file": f"test -e {file} || exit 0; {STAT} {file} && cat {file} && echo {END}"})

    def read_sections(self, found: Mapping[str, Section]) -> TextFileState | None:
        lines = found["file"].printed
        if not lines:
            return None
        (mode, owner, group), content = _parts(lines, 1)
        return TextFileState(mode=mode, owner=owner, group=group, content=content)


@dataclass(frozen=True)
class MaskedFileState(FactValue):
    """A regular file that may hold secrets of others, with its secrets masked."""

    mode: str  # octal, as stat prints it: "644"
    owner: str
    group: str
    sha256: str
    shown: str  # its text with the secrets masked


class MaskedFile(SectionsFact[MaskedFileState | None]):
    """The file of K3s at `path`, or None if there is none. Its secrets do not leave the node.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, path: str) -> Launch:
        file = shlex.quote(path)
        read = f"{STAT} {file} && sha256sum <{file} && {masked(path)} && echo {END}"
        return self.sections({"file": f"test -e {file} || exit 0; {read}"})

    def read_sections(self, found: Mapping[str, Section]) -> MaskedFileState | None:
        lines = found["file"].printed
        if not lines:
            return None
        (mode, owner, group, sha256, _), shown = _parts(lines, 2)
        return MaskedFileState(mode=mode, owner=owner, group=group, sha256=sha256, shown=shown)


def _parts(lines: Sequence[str], heads: int) -> tuple[list[str], str]:
    """Return the words of the first lines, and the text of the others. Raise ValueError if its end is missing."""
    text = "\n".join(lines[heads:])
    if not text.endswith(END):
        raise ValueError("the end of the file is missing")
    return " ".join(lines[:heads]).split(), text.removesuffix(END)
