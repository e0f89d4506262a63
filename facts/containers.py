"""The running containers of a node."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

KUBERNETES_LABELS = "io.kubernetes."
FORMAT = '{"name":{{json .Name}},"image":{{json .Config.Image}},"labels":{{json .Config.Labels}}}'


@dataclass(frozen=True)
class Container(FactValue):
    """A running container."""

    name: str
    image: str
    labels: dict[str, str]

    @property
    def is_kubernetes(self) -> bool:
        """True if a kubelet made it."""
        return any(label.startswith(KUBERNETES_LABELS) for label in self.labels)


class RunningContainers(SectionsFact[tuple[Container, ...] | None]):
    """The running containers, or None if no Docker engine answers.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        # One that ends between the two commands makes `docker inspect` fail, after it has printed the others.
        inspect = f"timeout 20 docker inspect --type container --format '{FORMAT}'"
        return self.sections({"engine": "timeout 20 docker ps -q", "ps": f"docker ps -q | xargs -r {inspect}"})

    def read_sections(self, found: Mapping[str, Section]) -> tuple[Container, ...] | None:
        if found["engine"].status != 0:
            return None
        rows = (json.loads(line) for line in found["ps"].lines if line)
        return tuple(
            Container(name=row["name"].removeprefix("/"), image=row["image"], labels=row["labels"] or {})
            for row in rows
        )


def serving(containers: Iterable[Container], patterns: Sequence[str]) -> list[str]:
    """Return the names of the containers that may be serving: not of Kubernetes, with a name of these patterns."""
    return [
        container.name
        for container in containers
        if not container.is_kubernetes and any(fnmatchcase(container.name, pattern) for pattern in patterns)
    ]
