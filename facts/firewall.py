"""The firewall of a node: ufw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

NOT_FOUND = 127
# ufw is Python, which would leave its bytecode on the node, and a fact writes nothing.
UFW = "PYTHONDONTWRITEBYTECODE=1 LC_ALL=C ufw"


@dataclass(frozen=True)
class Firewall(FactValue):
    """ufw's state and the rules that were added to it, in the words of its command line: "allow 22/tcp"."""

    active: bool
    rules: tuple[str, ...]


class UfwRules(SectionsFact[Firewall | None]):
    """The firewall, or None if the node has no ufw.

    Needs root. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections({"status": f"{UFW} status", "added": f"{UFW} show added"})

    def read_sections(self, found: Mapping[str, Section]) -> Firewall | None:
        if found["status"].status == NOT_FOUND:
            return None
        status = dict(line.split(": ", 1) for line in found["status"].lines if line.startswith("Status: "))["Status"]
        lines = found["added"].lines
        return Firewall(
            active=status == "active",
            rules=tuple(line.removeprefix("ufw ") for line in lines if line.startswith("ufw ")),
        )
