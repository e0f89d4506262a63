"""Volumes and containers of users in a node's Docker engine: a wipe removes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from gb10.facts.reading.belongings import Belongings
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section

POD, SERVING = "io.kubernetes.pod.uid", "gb10.serving"
FORMAT = (
    f'{{"name":{{{{json .Names}}}},"pod":{{{{json (.Label "{POD}")}}}},"serving":{{{{json (.Label "{SERVING}")}}}}}}'
)
NAMELESS = re.compile(r"[0-9a-f]{64}")


class DockerBelongings(SectionsFact[Belongings | None]):
    """Volumes and containers of users, or None if no engine answers.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections(
            {
                "volumes": "timeout 20 docker volume ls --format '{{.Name}}'",
                "containers": f"timeout 20 docker ps -a --format '{FORMAT}'",
            }
        )

    def read_sections(self, found: Mapping[str, Section]) -> Belongings | None:
        if any(found[name].status != 0 for name in ("volumes", "containers")):
            return None
        names = [name for name in found["volumes"].lines if name]
        rows = [json.loads(line) for line in found["containers"].lines if line]
        return Belongings(
            volumes=tuple(sorted(name[:12] if NAMELESS.fullmatch(name) else name for name in names)),
            containers=tuple(sorted(row["name"] for row in rows if not row["pod"] and not row["serving"])),
        )
