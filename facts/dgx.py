"""The release of DGX OS. No package has it as its version."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from gb10.facts.reading.dgx import FILE, Release, parse_release
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section


class DgxRelease(SectionsFact[Release | None]):
    """Release of DGX OS; None on any other system.

    Raises FactProcessError for the host whose file is not understood.
    """

    def command(self) -> Launch:
        return self.sections({}, {"release": FILE})

    def read_sections(self, found: Mapping[str, Section]) -> Release | None:
        if found["release"].status == errno.ENOENT:
            return None
        return parse_release(found["release"].printed)
