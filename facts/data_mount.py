"""The folder of a node that outlives its system: a partition of its own, or a plain directory."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.node import FOLDER, DataPlace, read_data_place
from gb10.facts.reading.values import Sections


class DataMount(SectionsFact[DataPlace]):
    """The data folder at `path`, and the kind of each of `folders` below it."""

    def command(self, path: str, folders: Sequence[str] = ()) -> Launch:
        place = shlex.quote(path)
        columns = "findmnt -J -b -o TARGET,SOURCE,FSTYPE,AVAIL,SIZE"
        # Where the path is absent, its nearest ancestor tells where it would lie.
        nearest = f'p={place}; while [ ! -e "$p" ]; do p=$(dirname "$p"); done'
        return self.sections(
            {
                "path": f"echo {place}",
                "kind": _kind(path),
                "place": f'{nearest}; {columns} -T "$p"',
                "root": f"{columns} -T /",
                "fstab": f"findmnt --fstab -n -o SOURCE -M {place}",
                **{f"{FOLDER}{name}": _kind(f"{path}/{name}") for name in folders},
            }
        )

    def read_sections(self, found: Sections) -> DataPlace:
        return read_data_place(found)


def _kind(path: str) -> str:
    """Return the command that prints the kind of a path; it prints nothing if nothing is there."""
    place = shlex.quote(path)
    return f"if [ -d {place} ]; then echo directory; elif [ -e {place} ] || [ -L {place} ]; then echo other; fi"
