"""What backups and restores report while they run. `line` is the text for a person under pyinfra's own command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gb10.operations.copying.plan import human
from gb10.programs.archive.manifest import Note, shown
from gb10.programs.backups.store import CONTROLLER, ProofResult


@dataclass(frozen=True)
class Transferred:
    """How far something is that takes long. Nothing is transferred while a copy is proven."""

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
        told = self.summary
        return f"{told['id']}: {human(told['size'])}, {told['members']} members, in {self.seconds:.1f} s"


@dataclass(frozen=True)
class Kept:
    """A backup is in one more place."""

    id: str
    where: str
    colour = None

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "where": self.where}

    @property
    def line(self) -> str:
        return f"{self.id}: {'now' if self.where == CONTROLLER else 'also'} on {self.where}"


@dataclass(frozen=True)
class Tried:
    """A copy of a backup was tried."""

    result: ProofResult
    colour = None

    @property
    def line(self) -> str:
        told = self.result
        verdict = "proven" if told.proven else f"NOT proven: {'; '.join(told.texts)}"
        return f"{told.id} on {told.where}: {verdict}"


@dataclass(frozen=True)
class Noted:
    """Something is not in a backup as it is on the node."""

    note: Note
    colour = None

    @property
    def line(self) -> str:
        return f"{'MISSING' if self.note.harms else 'noted'}: {shown(self.note.path)} {shown(self.note.text)}"


@dataclass(frozen=True)
class NoKeeper:
    """No other node keeps the backups of a node."""

    node: str
    colour = "yellow"

    @property
    def line(self) -> str:
        return f"MISSING: another node that keeps it: with the controller's disk the backup of {self.node} is lost"


@dataclass(frozen=True)
class Pruned:
    """Old backups were thrown away."""

    ids: tuple[str, ...]
    colour = None

    @property
    def line(self) -> str:
        return f"thrown away, as old: {', '.join(self.ids)}"


@dataclass(frozen=True)
class ToRestore:
    """What of a node a restore would change: a path, and how it differs."""

    difference: str
    colour = None

    @property
    def line(self) -> str:
        return f"to restore: {self.difference}"


@dataclass(frozen=True)
class ToRun:
    """A command that a restore would run, to make accounts."""

    command: tuple[str, ...]
    colour = None

    @property
    def line(self) -> str:
        return f"to run: {' '.join(self.command)}"


@dataclass(frozen=True)
class Remark:
    """What a person should know or do about a restore."""

    text: str
    colour = None

    @property
    def line(self) -> str:
        return f"note: {self.text}"


@dataclass(frozen=True)
class Sent:
    """How much of a backup has been sent to the node that is restored."""

    done_bytes: int
    total_bytes: int
    colour = None

    @property
    def line(self) -> str:
        return f"sent {human(self.done_bytes)} of {human(self.total_bytes)}"
