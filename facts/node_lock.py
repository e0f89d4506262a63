"""The lock of a node, kept on the node itself: every controller sees it, also after a reboot."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.node_lock import LOCK, LockHolder
from gb10.facts.reading.sections import Section


class NodeLock(SectionsFact[LockHolder | None]):
    """The holder of the node's lock, or None. Raises FactProcessError for a lock that is not understood."""

    def command(self) -> Launch:
        return self.sections({}, {"lock": LOCK})

    def read_sections(self, found: Mapping[str, Section]) -> LockHolder | None:
        section = found["lock"]
        return LockHolder.from_json(json.loads(section.text)) if section.status == 0 else None
