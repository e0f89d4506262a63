"""Copies between nodes: how far a running one is, and the proof that one is complete."""

from __future__ import annotations

from typing import Any

from gb10.facts.reading.copy import RunningCopy, read_running
from gb10.facts.reading.launcher import Launch, ProgramFact


class CopyProgress(ProgramFact[tuple[RunningCopy, ...]]):
    """The copies that this node receives now; none is an empty tuple.

    Raises FactProcessError for the host whose output is not understood.
    """

    default = tuple

    def command(self) -> Launch:
        return Launch("gb10.programs.copying.receiving.running:main", {})

    def read(self, answer: Any) -> tuple[RunningCopy, ...]:
        return tuple(map(read_running, answer))
