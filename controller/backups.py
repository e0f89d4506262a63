"""The backups that this controller keeps, and the proofs of their copies."""

from __future__ import annotations

from gb10.facts.reading.backups import BackupCopy, BackupProof, read_backups
from gb10.operations.backups.state_folder import backups_folder
from gb10.programs.backups.listing import listing

CONTROLLER = "controller"  # how evidence names this place


def local_backups(node: str | None = None) -> tuple[BackupCopy, ...]:
    """Return the controller's own copies, of one node or of all; the oldest of each node comes first."""
    found = read_backups(listing(str(backups_folder())), CONTROLLER) or ()
    return tuple(copy for copy in found if node is None or copy.node == node.lower())


def evidence_for(node: str) -> list[BackupProof]:
    """Return the last proof of each copy of a node's newest backup, on all places; nothing if there is no backup.

    A proof of the controller's copy counts only for the file that was proven: if the file was replaced since, the
    digest in its summary differs.
    """
    copies = local_backups(node)
    if not copies:
        return []
    newest = max(copies, key=lambda copy: copy.id.rpartition("-")[2])
    return [one for one in newest.evidence if newest.complete and one.sha256 in (None, newest.sha256)]
