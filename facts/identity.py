"""Identity of a node, and its release of DGX OS."""

from __future__ import annotations

import errno
from typing import ClassVar

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.node import IDENTITY_JOB, RELEASE_FILE, Identity, Release, parse_release, read_identity
from gb10.facts.reading.requests import SECTIONS
from gb10.facts.reading.values import Sections


class NodeIdentity(SectionsFact[Identity]):
    """Identity of the node."""

    def command(self) -> Launch:
        return Launch(SECTIONS, IDENTITY_JOB)

    def read_sections(self, found: Sections) -> Identity:
        return read_identity(found)


class DgxRelease(SectionsFact[Release | None]):
    """Release of DGX OS; None on any other system.

    Raises FactProcessError for the host whose file is not understood.
    """

    files: ClassVar = {"release": RELEASE_FILE}

    def read_sections(self, found: Sections) -> Release | None:
        if found["release"].status == errno.ENOENT:
            return None
        return parse_release(found["release"].printed)
