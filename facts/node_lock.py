"""Who works on a node, as the node itself remembers: seen from every controller, and after a reboot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.sections import read_sections, sections, understood
from gb10.facts.reading.values import FactValue

LOCK = "/var/lib/gb10/rebuild.lock"


@dataclass(frozen=True)
class LockHolder(FactValue):
    """A run that works on the node. It may be long gone: a lock outlives its process."""

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


class NodeLock(FactBase[LockHolder | None]):
    """Who holds the node's lock, or None. Raises FactProcessError for the host whose lock is not understood."""

    def command(self) -> StringCommand:
        return sections({"lock": f"cat {LOCK}"})

    @understood
    def process(self, output: list[str]) -> LockHolder | None:
        section = read_sections(output)["lock"]
        return LockHolder.from_json(json.loads(section.text)) if section.status == 0 else None
