"""Files on a node: text with mode and owner, files with masked secrets, and secrets without their content."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.values import FactValue, Sections
from gb10.group_data.settings import SECRET_FLAGS

MASK = "*MASKED*"
_FLAG = f"(--?({'|'.join(SECRET_FLAGS)})|-t)"
_KEY = f"({'|'.join(SECRET_FLAGS)}|t)"
# Others with such names are masked, too: K3S_VPN_AUTH_KEY, ETCD_PASSWORD.
_NAME = "(K3S|AWS|ETCD)_[A-Z0-9_]*(TOKEN|SECRET|ENDPOINT|KEY|AUTH|PASSWORD)"
_VARIABLE = f"({_NAME}|{'|'.join(dict.fromkeys(SECRET_FLAGS.values()))})"
# For `sed -z -E`, which sees the file as one line: the script writes each word of a command on a line of its own.
_PROGRAM = (
    # '--token=one or more words'
    f"s/('{_FLAG}=)[^']*'/\\1{MASK}'/g",
    f's/("{_FLAG}=)[^"]*"/\\1{MASK}"/g',
    # --token=word, --token word, '--token' 'word', and the same over two lines
    f"s/((^|[[:space:]'\"]){_FLAG}['\"]?(=|[[:space:]\\\\]+))(\"[^\"]*\"|'[^']*'|[^[:space:]'\"]+)/\\1{MASK}/g",
    # Environment=K3S_TOKEN=word
    f"s/({_VARIABLE}=)[^\\n]*/\\1{MASK}/g",
    # http://user:password@proxy; the password may hold a slash or an @
    f"s#://[^[:space:]'\"]*@#://{MASK}@#g",
    # token: word, "token": "word", and a text on the lines below it
    f"s/((^|[^-A-Za-z0-9_]){_KEY}[+]?['\"]?[[:blank:]]*:)[^\\n]*(\\n[[:blank:]]+[^\\n]*)*/\\1 '{MASK}'/g",
)


def masked(*paths: str) -> str:
    """Given files of K3s, return the command that prints them with the values of all secrets masked."""
    return shlex.join(["sed", "-z", "-E", "; ".join(_PROGRAM), *paths])


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
