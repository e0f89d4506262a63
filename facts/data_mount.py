"""The folder of a node that outlives its system: a partition of its own, or a plain directory."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.node import DataPlace
from gb10.facts.reading.values import Section, Sections

FOLDER = "folder "  # before the names of sections


class DataMount(SectionsFact[DataPlace]):
    """The data folder at `path`, and the kind of each of `folders` below it."""

    def command(self, path: str, folders: Sequence[str] = ()) -> Launch:
        place = shlex.quote(path)
        columns = "findmnt -J -b -o TARGET,SOURCE,FSTYPE,AVAIL,SIZE"
        # An absent path would lie on the file system of its nearest ancestor.
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
        place, root = _filesystem(found["place"]), _filesystem(found["root"])
        return DataPlace(
            path=found["path"].lines[0],
            kind=found["kind"].first,
            mounted_at=place["target"],
            source=_device(place),
            filesystem=place["fstype"],
            own_device=_device(place) != _device(root),
            free_bytes=int(place["avail"]),
            size_bytes=int(place["size"]),
            folders={
                name.removeprefix(FOLDER): section.first for name, section in found.items() if name.startswith(FOLDER)
            },
            expected=found["fstab"].first,
        )


def _kind(path: str) -> str:
    """Return the command that prints the kind of a path; it prints nothing if nothing is there."""
    place = shlex.quote(path)
    return f"if [ -d {place} ]; then echo directory; elif [ -e {place} ] || [ -L {place} ]; then echo other; fi"


def _filesystem(section: Section) -> dict[str, Any]:
    # The last of several mounts on one path hides the others.
    filesystem = json.loads(section.text)["filesystems"][-1]
    if not isinstance(filesystem, dict):
        raise ValueError(f"findmnt printed {section.text!r}")
    return filesystem


def _device(filesystem: dict[str, Any]) -> str:
    """Return the device without the folder that a bind mount or subvolume adds: /dev/nvme0n1p2[/@data]."""
    return str(filesystem["source"]).partition("[")[0]
