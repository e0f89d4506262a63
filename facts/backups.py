"""Backups that a node keeps of other nodes, and what proves them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pyinfra.context import host

from gb10.facts.reading.backups import BackupCopy, BackupProof, read_backups
from gb10.facts.reading.launcher import Launch, ProgramFact
from gb10.group_data.settings import BackupSettings, settings_of

T = TypeVar("T")


class _Listing(ProgramFact[T], Generic[T]):
    """A fact that reads the folder of backups on a node."""

    def command(self, root: str | None = None) -> Launch:
        root = root or settings_of(host.data.dict(), BackupSettings).folder
        return Launch("gb10.programs.backups.listing:main", {"root": root}, guarded=[root])


class Backups(_Listing[tuple[BackupCopy, ...] | None]):
    """The backups that the node keeps, of all nodes, oldest first; None if it has no folder for them.

    + root: the folder, instead of the one that `backup_folder` of the inventory names
    """

    def read(self, answer: Any) -> tuple[BackupCopy, ...] | None:
        return read_backups(answer)


class BackupEvidence(_Listing[tuple[BackupProof, ...] | None]):
    """The last proof of each backup that the node keeps. See Backups for `root` and None."""

    def read(self, answer: Any) -> tuple[BackupProof, ...] | None:
        copies = read_backups(answer)
        return None if copies is None else tuple(proof for copy in copies for proof in copy.evidence)
