"""The release of DGX OS, which no package version tells."""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.dgx import FILE, Release, parse_release
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections


class DgxRelease(FactBase[Release | None]):
    """Release of DGX OS; None where the node has no such file, as on any other system.

    Raises FactProcessError for the host whose file is not understood.
    """

    def command(self) -> StringCommand:
        return sections({"present": f"test -e {FILE}", "release": f"cat {FILE}"})

    @understood
    def process(self, output: list[str]) -> Release | None:
        found = read_sections(output)
        if found["present"].status != 0:
            return None
        if found["release"].status != 0:
            raise ValueError(f"{FILE} cannot be read")
        return parse_release(found["release"].lines)
