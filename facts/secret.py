"""Secret files on a node, described without their content."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class SecretFileState(FactValue):
    """State of a secret file, without its content."""

    sha256: str
    mode: str  # octal, as stat prints it: "600"
    owner: str


class SecretFile(SectionsFact[SecretFileState | None]):
    """State of the secret at `path`, or None if the file does not exist.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, path: str) -> Launch:
        file = shlex.quote(path)
        return self.sections({"file": f"test -e {file} || exit 0; stat -c '%a %U' {file} && sha256sum <{file}"})

    def read_sections(self, found: Mapping[str, Section]) -> SecretFileState | None:
        lines = found["file"].printed
        if not lines:
            return None
        (mode, owner), (sha256, _) = (line.split() for line in lines)
        return SecretFileState(sha256=sha256, mode=mode, owner=owner)
