"""The Docker engine of a node, its running containers, and what users own in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from gb10.facts.reading.docker import Belongings
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.values import FactValue, Sections


@dataclass(frozen=True)
class Engine(FactValue):
    """A Docker engine that answers."""

    version: str
    default_runtime: str
    runtimes: tuple[str, ...]
    storage_driver: str
    root: str


class DockerEngine(SectionsFact[Engine | None]):
    """The Docker engine, or None if none answers."""

    commands: ClassVar = {"info": "timeout 20 docker info --format '{{json .}}'"}

    def read_sections(self, found: Sections) -> Engine | None:
        section = found["info"]
        info = json.loads(section.text) if section.status == 0 and section.lines else {}
        if not info.get("ServerVersion"):
            return None
        return Engine(
            version=info["ServerVersion"],
            default_runtime=info.get("DefaultRuntime", ""),
            runtimes=tuple(sorted(info.get("Runtimes") or {})),
            storage_driver=info.get("Driver", ""),
            root=info.get("DockerRootDir", ""),
        )


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
    """The running containers, or None if no Docker engine answers."""

    def command(self) -> Launch:
        # One that ends between the two commands makes `docker inspect` fail, after it has printed the others.
        inspect = f"timeout 20 docker inspect --type container --format '{FORMAT}'"
        return self.sections({"engine": "timeout 20 docker ps -q", "ps": f"docker ps -q | xargs -r {inspect}"})

    def read_sections(self, found: Sections) -> tuple[Container, ...] | None:
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


POD, SERVING = "io.kubernetes.pod.uid", "gb10.serving"
BELONGINGS_FORMAT = (
    f'{{"name":{{{{json .Names}}}},"pod":{{{{json (.Label "{POD}")}}}},"serving":{{{{json (.Label "{SERVING}")}}}}}}'
)
NAMELESS = re.compile(r"[0-9a-f]{64}")


class DockerBelongings(SectionsFact[Belongings | None]):
    """Volumes and containers of users, or None if no engine answers."""

    commands: ClassVar = {
        "volumes": "timeout 20 docker volume ls --format '{{.Name}}'",
        "containers": f"timeout 20 docker ps -a --format '{BELONGINGS_FORMAT}'",
    }

    def read_sections(self, found: Sections) -> Belongings | None:
        if any(found[name].status != 0 for name in ("volumes", "containers")):
            return None
        names = [name for name in found["volumes"].lines if name]
        rows = [json.loads(line) for line in found["containers"].lines if line]
        return Belongings(
            volumes=tuple(sorted(name[:12] if NAMELESS.fullmatch(name) else name for name in names)),
            containers=tuple(sorted(row["name"] for row in rows if not row["pod"] and not row["serving"])),
        )
