"""Evidence: what came of the last proof of each copy of a backup, kept beside the backup."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import shown
from gb10.programs.backups.store import PROOF, put, read_summary

Reason = tuple[str, str]  # a code of the catalogue, and what is wrong

# These say nothing against the archive: it is old, its key is missing, or it could not be tried.
UNTOLD = {"BACKUP_STALE", "BACKUP_KEY", "KEEPER_FULL", "DISK_FULL", "NODE_UNREACHABLE", "BACKUP_FAILED", "LOCKED"}
ODD_ERRORS = (AttributeError, LookupError, TypeError, ValueError)  # of reading what is no evidence


@dataclass(frozen=True)
class Findings:
    """What was found when a copy of a backup was tried. It is proven if nothing speaks against it."""

    sha256: str | None = None
    created: str | None = None
    opened: bool = False  # unpacked and compared; an encrypted one is opened on the controller alone
    encrypted: bool | None = None
    nodes: tuple[str, ...] | None = None  # that a head's database holds
    reasons: tuple[Reason, ...] = ()

    @property
    def proven(self) -> bool:
        """True if the copy was tried and can be restored."""
        return not self.reasons

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of what speaks against the copy."""
        return tuple(code for code, _ in self.reasons)

    @property
    def texts(self) -> tuple[str, ...]:
        """What speaks against the copy, in words."""
        return tuple(text for _, text in self.reasons)


@dataclass(frozen=True)
class Evidence:
    """What came of trying one copy of a backup."""

    where: str  # "controller", or the name of the host that keeps it
    node: str  # whose backup it is
    id: str
    at: float  # when that was, in seconds since the epoch
    found: Findings

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as it stands in its file."""
        place = {"where": self.where, "node": self.node, "id": self.id, "at": self.at}
        told = {**asdict(self.found), "codes": list(self.found.codes), "reasons": list(self.found.texts)}
        return {**place, **told, "proven": self.found.proven}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Evidence:
        """Return the evidence that `to_json` described. Raise ODD_ERRORS for anything else."""
        reasons = tuple(zip(map(shown, told["codes"]), map(shown, told["reasons"]), strict=True))
        if told["proven"] is not (not reasons):
            raise ValueError("it is proven and refused at the same time, or neither")
        nodes = told["nodes"] if told["nodes"] is None else tuple(told["nodes"])
        found = Findings(told["sha256"], told["created"], told["opened"], told.get("encrypted"), nodes, reasons)
        return cls(told["where"], told["node"], told["id"], float(told["at"]), found)


def evidence(root: str, node: str, backup: str) -> list[Evidence]:
    """Return what came of the last proof of each copy that this store knows of."""
    try:
        with open(os.path.join(root, node, backup + PROOF), encoding="utf-8") as file:
            copies = list(json.load(file)["copies"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
    found = []
    for copy in copies:
        with contextlib.suppress(*ODD_ERRORS):
            found.append(Evidence.from_json(copy))
    return found


def write_evidence(root: str, node: str, backup: str, found: Iterable[Evidence]) -> None:
    """Write down what came of a proof.

    A backup that is only old, or that could not be tried, is as good as it was when it was proven.
    """
    told = {copy.where: copy for copy in evidence(root, node, backup)}
    for copy in found:
        before = told.get(copy.where)
        tried = copy.found.proven or set(copy.found.codes) - UNTOLD
        if tried or not (before and before.found.proven):
            told[copy.where] = copy
    if told and os.path.isdir(os.path.join(root, node)):
        document = {"format": 1, "copies": [copy.to_json() for copy in told.values()]}
        put(root, node, backup + PROOF, json.dumps(document, indent=1).encode() + b"\n")


def is_proven(root: str, node: str, backup: str, where: str | None) -> bool:
    """Return True if the archive that is kept here was proven as it is.

    + where: in this place; None: in any, for who opens the archive hashes it
    """
    with contextlib.suppress(RefusedError):
        sha256 = read_summary(root, node, backup)["sha256"]
        copies = [copy for copy in evidence(root, node, backup) if where in (None, copy.where)]
        return any(copy.found.proven and copy.found.sha256 == sha256 for copy in copies)
    return False
