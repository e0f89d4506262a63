"""Reports of backups and restores. `line` is the text for a person under pyinfra's own command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.values import FactValue
from gb10.operations.copying.plan import human
from gb10.programs.backups.store import CONTROLLER, ProofResult


@dataclass(frozen=True)
class Transferred:
    """Progress of a transfer, or the start of a proof, which has no bytes."""

    what: str
    done_bytes: int = 0
    total_bytes: int | None = None
    colour = None

    @property
    def line(self) -> str:
        of = f" of {human(self.total_bytes)}" if self.total_bytes else ""
        return self.what + (f": {human(self.done_bytes)}{of} so far" if self.done_bytes else " ...")


@dataclass(frozen=True)
class Made:
    """A backup was made, and is on the controller."""

    summary: Mapping[str, Any]
    where: str
    seconds: float
    colour = None

    def to_json(self) -> dict[str, Any]:
        return {**self.summary, "where": self.where, "seconds": self.seconds}

    @property
    def line(self) -> str:
        summary = self.summary
        return f"{summary['id']}: {human(summary['size'])}, {summary['members']} members, in {self.seconds:.1f} s"


@dataclass(frozen=True)
class Kept(FactValue):
    """A backup is in one more place."""

    id: str
    where: str
    colour = None

    @property
    def line(self) -> str:
        return f"{self.id}: {'now' if self.where == CONTROLLER else 'also'} on {self.where}"


@dataclass(frozen=True)
class ProofDone:
    """The result of trying a copy of a backup."""

    result: ProofResult
    colour = None

    @property
    def line(self) -> str:
        result = self.result
        verdict = "proven" if result.proven else f"NOT proven: {'; '.join(result.texts)}"
        return f"{result.id} on {result.where}: {verdict}"


@dataclass(frozen=True)
class Remark:
    """Something that a person should know, or do, about a backup or a restore."""

    line: str
    colour: str | None = None


@dataclass(frozen=True)
class Restoring:
    """The steps of a restore that begins."""

    steps: tuple[str, ...]
    line = None
    colour = None


@dataclass(frozen=True)
class ToRestore:
    """A change that a restore would make."""

    line: str
    colour = None
