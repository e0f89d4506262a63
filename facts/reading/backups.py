"""Backups and their proofs, as a node or the controller lists them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class BackupProof(FactValue):
    """The result of trying one copy of a backup. `at` is its time, `age_seconds` its age."""

    where: str  # "controller", or the name of the host that keeps it
    node: str  # whose backup it is
    id: str
    proven: bool
    reasons: tuple[str, ...]  # what speaks against it
    codes: tuple[str, ...]  # of the catalogue of errors, one for each reason
    at: datetime
    age_seconds: float
    sha256: str | None  # of the archive as it was read; None where it could not be
    created: str | None  # when the backup was made
    opened: bool  # unpacked and compared; an encrypted one is opened on the controller alone
    nodes: tuple[str, ...] | None  # that a head's database holds

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "at": self.at.timestamp()}


@dataclass(frozen=True)
class BackupCopy(FactValue):
    """A backup that is kept in one place. Without its summary it was never complete."""

    node: str
    id: str
    complete: bool
    size: int  # bytes of its file
    created: str | None
    sha256: str | None
    encrypted: bool
    parts: tuple[str, ...]
    versions: dict[str, Any] = field(default_factory=dict)  # of DGX OS, K3s, Docker ...
    machine: dict[str, Any] = field(default_factory=dict)  # which machine, and which installation of it
    evidence: tuple[BackupProof, ...] = ()  # of the copies that this place knows of
    place: str | None = None  # "controller"; None for a node, which writes down no proofs but those of its own copies

    @property
    def proven(self) -> bool:
        """True if this very copy was proven in its place, at any time."""
        return any(one.proven and one.sha256 == self.sha256 for one in self.evidence if self.place in (None, one.where))

    def to_json(self) -> dict[str, Any]:
        shown = {**super().to_json(), "proven": self.proven}
        return {**shown, "evidence": [one.to_json() for one in self.evidence]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BackupCopy:
        """The copy that `to_json` described."""
        values = {key: value for key, value in document.items() if key not in ("proven", "evidence", "parts")}
        evidence = tuple(parse_proof(one) for one in document["evidence"])
        return cls(**values, parts=tuple(document["parts"]), evidence=evidence)


def parse_backups(found: Iterable[Mapping[str, Any]] | None, place: str | None = None) -> tuple[BackupCopy, ...] | None:
    """Given what backup_listing.py lists in a place, return the backups."""
    return None if found is None else tuple(_copy(one, place) for one in found)


def _copy(found: Mapping[str, Any], place: str | None) -> BackupCopy:
    summary = found["summary"]
    return BackupCopy(
        node=found["node"],
        id=found["id"],
        complete=bool(summary) and summary.get("size") == found["file_size"],
        size=found["file_size"],
        created=summary.get("created"),
        sha256=summary.get("sha256"),
        encrypted=found["file"].endswith(".age"),
        parts=tuple(summary.get("parts") or ()),
        versions=dict(summary.get("versions") or {}),
        machine=dict(summary.get("machine") or {}),
        evidence=tuple(parse_proof(proof) for proof in found["proofs"]),
        place=place,
    )


def parse_proof(found: Mapping[str, Any]) -> BackupProof:
    """Given what a proof came to, as programs/backups/store.py writes it, return it."""
    nodes = found.get("nodes")
    return BackupProof(
        where=found["where"],
        node=found["node"],
        id=found["id"],
        proven=found["proven"] is True and not found["reasons"],
        reasons=tuple(found["reasons"]),
        codes=tuple(found["codes"]),
        at=datetime.fromtimestamp(found["at"], UTC),
        age_seconds=max(0.0, time.time() - found["at"]),
        sha256=found["sha256"],
        created=found["created"],
        opened=bool(found["opened"]),
        nodes=None if nodes is None else tuple(nodes),
    )
