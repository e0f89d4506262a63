"""Who works on a node, as the node itself remembers: seen from every controller, and after a reboot."""

from __future__ import annotations

import json

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.node_lock import LOCK, LockHolder
from gb10.facts.reading.sections import read_sections


class NodeLock(FactBase[LockHolder | None]):
    """Who holds the node's lock, or None. Raises FactProcessError for the host whose lock is not understood."""

    def command(self) -> StringCommand:
        return sections({"lock": f"cat {LOCK}"})

    @understood
    def process(self, output: list[str]) -> LockHolder | None:
        section = read_sections(output)["lock"]
        return LockHolder.from_json(json.loads(section.text)) if section.status == 0 else None
