"""Files on a node: text with mode and owner, files with masked secrets, and secrets without their content."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.masking import masked
from gb10.facts.reading.values import FactValue, Sections

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

    Not for secrets: see gb10.facts.file.
    """

    def command(self, path: str) -> Launch:
        file = shlex.quote(path)
        return self.sections(
            {"file": f"test -e {file} || exit 0; {STAT} {file} && cat {file} && echo {END}"}, guarded=[path]
        )

    def read_sections(self, found: Sections) -> TextFileState | None:
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
    """The file of K3s at `path`, or None if there is none. Its secrets do not leave the node."""

    def command(self, path: str) -> Launch:
        file = shlex.quote(path)
        read = f"{STAT} {file} && sha256sum <{file} && {masked(path)} && echo {END}"
        return self.sections({"file": f"test -e {file} || exit 0; {read}"})

    def read_sections(self, found: Sections) -> MaskedFileState | None:
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


@dataclass(frozen=True)
class SecretFileState(FactValue):
    """State of a secret file, without its content."""

    sha256: str
    mode: str  # octal, as stat prints it: "600"
    owner: str


class SecretFile(SectionsFact[SecretFileState | None]):
    """State of the secret at `path`, or None if the file does not exist."""

    def command(self, path: str) -> Launch:
        file = shlex.quote(path)
        return self.sections({"file": f"test -e {file} || exit 0; stat -c '%a %U' {file} && sha256sum <{file}"})

    def read_sections(self, found: Sections) -> SecretFileState | None:
        lines = found["file"].printed
        if not lines:
            return None
        (mode, owner), (sha256, _) = (line.split() for line in lines)
        return SecretFileState(sha256=sha256, mode=mode, owner=owner)
