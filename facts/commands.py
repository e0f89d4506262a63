"""Paths of the commands that a node has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section


class CommandPaths(SectionsFact[dict[str, str | None]]):
    """Name -> path of each command, or None if the node does not have it.

    A link in /usr/local/bin counts even while what it points to is missing.
    """

    def command(self, names: Sequence[str]) -> Launch:
        return self.sections({name: f"command -v {name} || ls /usr/local/bin/{name}" for name in names})

    def read_sections(self, found: Mapping[str, Section]) -> dict[str, str | None]:
        return {name: section.first for name, section in found.items()}
