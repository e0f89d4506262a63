"""The options that every copy from node to node has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from gb10.group_data.settings import did_you_mean

STREAMS = 4  # for each rail
MOST_STREAMS = 64

Transport = Literal["rsyncd", "ssh"]
Network = Literal["rails", "management"]
Verify = Literal["size", "hash"]
Dangling = Literal["refuse", "list"]
CHOICES = {"transport": Transport, "network": Network, "verify": Verify, "dangling": Dangling}


@dataclass(frozen=True, kw_only=True)
class CopyOptions:
    """
    How to copy.

    + transport: "rsyncd" (an rsync daemon for this copy alone; not encrypted) or "ssh" (encrypted, and slower)
    + network: "rails", or "management" where there are none
    + verify: "size", or "hash" to read everything on both nodes and compare sha256
    + dangling: "refuse" a source with links that lead nowhere, or "list" them and go on
    + force: also over a link that is found to be throttled
    + streams: how many on each rail, 1 to 64
    + progress_seconds: how often to say how far it is
    """

    transport: Transport = "rsyncd"
    network: Network = "rails"
    verify: Verify = "size"
    dangling: Dangling = "refuse"
    force: bool = False
    streams: int = STREAMS
    progress_seconds: float = 10.0

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all options."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Given arguments of a copy, return its options. Raise ValueError for a name that is none of them."""
        known = cls.names()
        if strange := [
            f"there is no option {name!r}{did_you_mean(name, known)}" for name in given if name not in known
        ]:
            raise ValueError("; ".join(strange))
        return cls(**given)

    def mistakes(self) -> list[str]:
        """Return what no copy takes: it would otherwise go on with something else, or break off in the middle."""
        texts = [
            f"{name} is {chosen!r}, and not one of: {', '.join(get_args(choice))}"
            for name, choice in CHOICES.items()
            if (chosen := getattr(self, name)) not in get_args(choice)
        ]
        if not isinstance(self.streams, int) or not 1 <= self.streams <= MOST_STREAMS:
            texts.append(f"streams is {self.streams!r}, and not 1 to {MOST_STREAMS}")
        return texts
