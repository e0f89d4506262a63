"""The identity of a node: names, numbers and clock."""

from __future__ import annotations

from collections.abc import Mapping

from gb10.facts.reading.identity import IDENTITY_JOB, Identity, read_identity
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.requests import SECTIONS
from gb10.facts.reading.sections import Section


class NodeIdentity(SectionsFact[Identity]):
    """Identity of the node. Raises FactProcessError for the host whose output is not understood."""

    def command(self) -> Launch:
        return Launch(SECTIONS, IDENTITY_JOB)

    def read_sections(self, found: Mapping[str, Section]) -> Identity:
        return read_identity(found)
