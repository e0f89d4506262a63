"""A step of a long piece of work: what it will do, whether it is done, and how it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

# Whose time a step takes: ours, that of data on their way, of a model being loaded, or of a person.
Kind = Literal["own", "copy", "load", "human"]


@dataclass(frozen=True)
class Evidence:
    """Evidence that a step is done or not: what was seen, in one line."""

    holds: bool
    text: str
    details: Mapping[str, str | None] = field(default_factory=dict)


class Step(ABC):
    """One step.

    It is done when `verify` says so: facts decide, not what the journal says was done. So a run that is taken up again
    is the same list of steps, and skips those that hold.
    """

    name: str  # in the journal, in events and in the plan
    title: str  # for a person
    kind: Kind = "own"
    destroys: bool = False
    looks_first: bool = True  # False: looking is expensive, and a first run knows what it would find

    @property
    def patience_seconds(self) -> float:
        """How long it may take after `run` until the step holds."""
        return 0.0

    @abstractmethod
    def plan(self) -> str:
        """Say what `run` would do now."""

    @abstractmethod
    def verify(self) -> Evidence:
        """Look whether the step is done."""

    def run(self) -> None:  # noqa: B027 - a step may have nothing to do but to wait
        """Do the step. By default there is nothing to do but to wait until it holds."""

    def undo(self) -> str | None:
        """Take back what the step did, and say so; None if nothing was taken back."""
        return None


def undo(steps: Sequence[Step]) -> Iterable[str]:
    """Undo steps, the last one first; yield what was taken back."""
    for step in reversed(steps):
        if said := step.undo():
            yield said
