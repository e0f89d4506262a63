"""Where a node keeps what is to outlive its system: a partition of its own, or a plain directory."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.sections import Section, read_sections, sections, understood
from gb10.facts.reading.values import FactValue

FOLDER = "folder "  # before the names of sections


@dataclass(frozen=True)
class DataPlace(FactValue):
    """A path, and the file system that holds it (or that would, where the path is absent)."""

    path: str
    kind: str | None  # "directory", "other" (a file, a dangling link ...), or None where there is nothing
    mounted_at: str  # of the file system that holds it
    source: str  # its device
    filesystem: str  # its type
    own_device: bool  # another device than the root file system's: only then it can outlive a reinstallation
    free_bytes: int
    size_bytes: int
    folders: dict[str, str | None]  # name of what was asked for below it -> its kind
    expected: str | None  # the device that /etc/fstab mounts at this very path

    @property
    def is_unmounted(self) -> bool:
        """Whether a file system that belongs here is not mounted: what is written now would vanish below it."""
        return self.expected is not None and self.mounted_at != self.path


class DataMount(FactBase[DataPlace]):
    """What is at `path`, and of which kind each of `folders` below it is.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, path: str, folders: Sequence[str] = ()) -> StringCommand:
        place = shlex.quote(path)
        columns = "findmnt -J -b -o TARGET,SOURCE,FSTYPE,AVAIL,SIZE"
        # Where the path is absent, its nearest ancestor tells where it would lie.
        nearest = f'p={place}; while [ ! -e "$p" ]; do p=$(dirname "$p"); done'
        return sections(
            {
                "path": f"echo {place}",
                "kind": _kind(path),
                "place": f'{nearest}; {columns} -T "$p"',
                "root": f"{columns} -T /",
                "fstab": f"findmnt --fstab -n -o SOURCE -M {place}",
                **{f"{FOLDER}{name}": _kind(f"{path}/{name}") for name in folders},
            }
        )

    @understood
    def process(self, output: list[str]) -> DataPlace:
        found = read_sections(output)
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
    """Given a path, return the command that prints its kind, nothing for nothing."""
    place = shlex.quote(path)
    return f"if [ -d {place} ]; then echo directory; elif [ -e {place} ] || [ -L {place} ]; then echo other; fi"


def _filesystem(section: Section) -> dict[str, Any]:
    # Of several mounts on one path the last one is what is seen.
    filesystem = json.loads(section.text)["filesystems"][-1]
    if not isinstance(filesystem, dict):
        raise ValueError(f"findmnt printed {section.text!r}")
    return filesystem


def _device(filesystem: dict[str, Any]) -> str:
    """The device, without the folder within it that a bind mount or a subvolume adds: /dev/nvme0n1p2[/@data]."""
    return str(filesystem["source"]).partition("[")[0]
