"""The folder of a node that outlives its system."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.sections import Section
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
        """True if the file system of this path is not mounted: what is written now would vanish below it."""
        return self.expected is not None and self.mounted_at != self.path


def read_data_place(found: Mapping[str, Section]) -> DataPlace:
    """Given the sections of DataMount, return the data folder."""
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


def _filesystem(section: Section) -> dict[str, Any]:
    # Of several mounts on one path the last one is what is seen.
    filesystem = json.loads(section.text)["filesystems"][-1]
    if not isinstance(filesystem, dict):
        raise ValueError(f"findmnt printed {section.text!r}")
    return filesystem


def _device(filesystem: dict[str, Any]) -> str:
    """The device, without the folder within it that a bind mount or a subvolume adds: /dev/nvme0n1p2[/@data]."""
    return str(filesystem["source"]).partition("[")[0]
