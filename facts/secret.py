"""Files that hold a secret, seen without reading it out."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.command import QuoteString

from gb10.facts.reading.launcher import understood
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class SecretFileState(FactValue):
    """What may be known about a secret on a node: never its content."""

    sha256: str
    mode: str  # octal, as stat prints it: "600"
    owner: str


class SecretFile(FactBase[SecretFileState | None]):
    """State of the secret at `path`, or None where there is no such file.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, path: str) -> StringCommand:
        file = QuoteString(path)
        return StringCommand("test -e", file, "|| exit 0;", "stat -c '%a %U'", file, "&& sha256sum <", file)

    @understood
    def process(self, output: list[str]) -> SecretFileState:
        (mode, owner), (sha256, _) = (line.split() for line in output)
        return SecretFileState(sha256=sha256, mode=mode, owner=owner)
