"""Model servers of a node: engines, containers, mode and health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gb10.facts.reading.launcher import Launch, ProgramFact
from gb10.facts.reading.serving import PORT, NodeServing, node_serving

SPARE_SECONDS = 60


class ServingState(ProgramFact[NodeServing]):
    """The model servers of the node, by its containers and processes, and what the one on `port` answers.

    + port: of the server's API
    + marks: mode -> regular expressions that find its engine's command lines, for engines other than vLLM and SGLang
    + patterns: names of containers that may be serving
    + hub: folder of models that a container which serves should not be able to write
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
        hub: str = "/data/huggingface/hub",
    ) -> Launch:
        job = {
            "port": port,
            "marks": dict(marks or {}),
            "patterns": list(patterns),
            "complete_seconds": complete_seconds,
            "hub": hub,
        }
        return Launch("gb10.programs.serving_probe:look", job, seconds=int(complete_seconds) + SPARE_SECONDS)

    def read(self, answer: Any) -> NodeServing:
        return node_serving(answer)
