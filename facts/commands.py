"""Which commands a node has."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections


class CommandPaths(FactBase[dict[str, str | None]]):
    """Name -> path of each command, or None where the node has none of that name.

    A link in /usr/local/bin counts even while what it points to is missing.
    """

    def command(self, names: Sequence[str]) -> StringCommand:
        return sections({name: f"command -v {name} || ls /usr/local/bin/{name}" for name in names})

    @understood
    def process(self, output: list[str]) -> dict[str, str | None]:
        return {name: section.first for name, section in read_sections(output).items()}
