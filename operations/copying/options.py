"""What to copy from node to node, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from gb10.facts.reading.copy import UNFINISHED
from gb10.group_data.settings import did_you_mean
from gb10.programs.answer import RefusedError

MOST_STREAMS = 64

Transport = Literal["auto", "rsyncd", "ssh"]
Network = Literal["rails", "management"]
Verify = Literal["size", "hash"]
Dangling = Literal["refuse", "list"]
CHOICES = {"transport": Transport, "network": Network, "verify": Verify, "dangling": Dangling}


@dataclass(frozen=True, kw_only=True)
class CopyOptions:
    """
    How to copy.

    + transport: "rsyncd" (an rsync daemon for this copy alone; not encrypted), "ssh" (encrypted, and slower), or
      "auto": ssh over the management network, where others may listen, and rsyncd over the rails
    + network: "rails", or "management" where there are none
    + verify: "size", or "hash" to read everything on both nodes and compare sha256
    + dangling: "refuse" a source with links that lead nowhere, or "list" them and go on
    + force: also copy over a throttled link
    + streams: number of streams on each rail, 1 to 64
    + progress_seconds: seconds between two reports of progress
    """

    transport: Transport = "auto"
    network: Network = "rails"
    verify: Verify = "size"
    dangling: Dangling = "refuse"
    force: bool = False
    streams: int = 4
    progress_seconds: float = 10.0

    @property
    def is_encrypted(self) -> bool:
        """True for a copy by ssh."""
        return self.transport == "ssh" or (self.transport == "auto" and self.network == "management")

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all options."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the options of a copy. Raise RefusedError for a name that is no option."""
        known = cls.names()
        unknown = [f"there is no option {name!r}{did_you_mean(name, known)}" for name in given if name not in known]
        if unknown:
            raise RefusedError("SETTINGS_INVALID", "; ".join(unknown))
        return cls(**given)

    def check(self) -> None:
        """Raise RefusedError for values that are not allowed: they would fail in the middle of a copy."""
        faults = [
            f"{name} is {chosen!r}, and not one of: {', '.join(get_args(choice))}"
            for name, choice in CHOICES.items()
            if (chosen := getattr(self, name)) not in get_args(choice)
        ]
        if not isinstance(self.streams, int) or not 1 <= self.streams <= MOST_STREAMS:
            faults.append(f"streams is {self.streams!r}, and not 1 to {MOST_STREAMS}")
        if faults:
            raise RefusedError("SETTINGS_INVALID", "; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class CopyRequest(CopyOptions):
    """What to copy, and how. `paths`, `also` and `exclude` are those of the operation gb10.operations.cx7.sync."""

    src_path: str
    dest_path: str
    paths: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    exclude: tuple[str, ...] = UNFINISHED
    delete: bool = False

    def listing(self, root: str) -> dict[str, Any]:
        """Return the arguments of FileTree that list what is copied, below one of the two roots."""
        chosen = {"paths": self.paths, "also": self.also, "exclude": self.exclude}
        return {"root": root, "copied_to": self.dest_path, **chosen}
