"""The Docker engine of a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Engine(FactValue):
    """A Docker engine that answers."""

    version: str
    default_runtime: str
    runtimes: tuple[str, ...]
    storage_driver: str
    root: str


class DockerEngine(SectionsFact[Engine | None]):
    """The Docker engine, or None if none answers.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections({"info": "timeout 20 docker info --format '{{json .}}'"})

    def read_sections(self, found: Mapping[str, Section]) -> Engine | None:
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
