"""What serves a model on a node, in which mode, and whether it answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.facts.reading.serving import PORT, NodeServing, node_serving

SPARE_SECONDS = 60


class ServingState(FactBase[NodeServing]):
    """What serves on the node, told from its containers and processes, and what the server on `port` answers.

    + port: of the server's API
    + marks: mode -> regular expressions that find its engine's command lines, for engines other than vLLM and SGLang
    + patterns: names of containers that may be serving
    + complete_seconds: how long a completion of one token may take; 0: none is asked for

    No command line leaves the node: it may hold a key. Raises FactProcessError for the host whose output is not
    understood.
    """

    def command(
        self,
        port: int = PORT,
        marks: Mapping[str, Sequence[str]] | None = None,
        patterns: Sequence[str] = ("*",),
        complete_seconds: float = 0,
    ) -> StringCommand:
        wanted = {
            "port": port,
            "marks": dict(marks or {}),
            "patterns": list(patterns),
            "complete_seconds": complete_seconds,
        }
        seconds = str(int(complete_seconds) + SPARE_SECONDS)
        words = ("timeout", seconds, "python3", "-c", probe_program(), json.dumps(wanted))
        return sections({"probe": shlex.join(words)})

    @understood
    def process(self, output: list[str]) -> NodeServing:
        section = read_sections(output)["probe"]
        if section.status != 0:
            raise ValueError(f"the node could not be asked what serves on it (status {section.status})")
        return node_serving(json.loads(section.text))


def probe_program() -> str:
    """The program that runs on the nodes."""
    return files("gb10.programs").joinpath("serving_probe.py").read_text()
