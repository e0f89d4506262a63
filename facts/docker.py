"""The Docker engine of a node."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Engine(FactValue):
    """A Docker engine that answers."""

    version: str
    default_runtime: str
    runtimes: tuple[str, ...]
    storage_driver: str
    root: str


class DockerEngine(FactBase[Engine | None]):
    """The Docker engine, or None where none answers.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections({"info": "timeout 20 docker info --format '{{json .}}'"})

    @understood
    def process(self, output: list[str]) -> Engine | None:
        section = read_sections(output)["info"]
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
