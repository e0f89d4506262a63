"""The lock of a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.values import FactValue

LOCK = "/var/lib/gb10/rebuild.lock"


@dataclass(frozen=True)
class LockHolder(FactValue):
    """A run that holds the lock. It may have ended: a lock outlives its process."""

    run: str  # its name in the journal of its controller
    owner: str  # the user
    controller: str  # its hostname
    pid: int
    since: str  # in UTC, ISO 8601
    step: str  # the part of the run that it was last seen in

    def __str__(self) -> str:
        return f"{self.owner}@{self.controller} (pid {self.pid}, {self.step})"

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> LockHolder:
        """Given what `to_json` returned, return it. Raise KeyError or ValueError for anything else."""
        return cls(
            run=str(document["run"]),
            owner=str(document["owner"]),
            controller=str(document["controller"]),
            pid=int(document["pid"]),
            since=str(document["since"]),
            step=str(document["step"]),
        )
