"""Backups and their proofs, as a node or the controller lists them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from gb10.facts.reading.values import FactValue
from gb10.programs.answer import RefusedError
from gb10.programs.backups.store import check_names


@dataclass(frozen=True, kw_only=True)
class BackupName(FactValue):
    """A backup: whose it is, and which. None is what could not be read."""

    node: str
    id: str
    created: str | None
    sha256: str | None  # of its file


@dataclass(frozen=True, kw_only=True)
class BackupProof(BackupName):
    """The result of trying one copy of a backup. `at` is its time, `age_seconds` its age."""

    where: str  # "controller", or the name of the host that keeps it
    proven: bool
    reasons: tuple[str, ...]  # why it is not proven
    codes: tuple[str, ...]  # error codes, one for each reason
    at: datetime
    age_seconds: float
    opened: bool  # unpacked and compared; an encrypted one is opened on the controller alone
    nodes: tuple[str, ...] | None  # in the database of a head's K3s

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "at": self.at.timestamp()}


@dataclass(frozen=True, kw_only=True)
class BackupCopy(BackupName):
    """A backup that is kept in one place. Without its summary it was never complete."""

    complete: bool
    size: int  # bytes of its file
    encrypted: bool
    parts: tuple[str, ...]
    versions: dict[str, Any] = field(default_factory=dict)  # of DGX OS, K3s, Docker ...
    machine: dict[str, Any] = field(default_factory=dict)  # which machine, and which installation of it
    evidence: tuple[BackupProof, ...] = ()  # of the copies that this place knows of
    place: str | None = None  # "controller"; None for a node, which keeps proofs of its own copies only

    also = ("proven",)

    @property
    def proven(self) -> bool:
        """True if this very copy was proven in its place, at any time."""
        return any(one.proven and one.sha256 == self.sha256 for one in self.evidence if self.place in (None, one.where))


def read_backups(found: Iterable[Mapping[str, Any]] | None, place: str | None = None) -> tuple[BackupCopy, ...] | None:
    """Given the list that programs/backups/listing.py makes in a place, return the backups that have proper names."""
    return None if found is None else tuple(_copy(one, place) for one in found if _is_named(one["node"], one["id"]))


def _is_named(node: str, backup: str) -> bool:
    with suppress(RefusedError):
        check_names(node, backup)
        return True
    return False


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
        evidence=tuple(map(_proof, found["proofs"])),
        place=place,
    )


def _proof(found: Mapping[str, Any]) -> BackupProof:
    """Return a proof as programs/backups/store.py writes it."""
    proven = found["proven"] is True and not found["reasons"]
    age_seconds = time.time() - found["at"]  # negative for a time in the future
    proof = BackupProof.from_json({"nodes": None, **found, "proven": proven, "age_seconds": age_seconds})
    return replace(proof, at=proof.at.astimezone(UTC))  # a timezone of pydantic does not pass the pipe
