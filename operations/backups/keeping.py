"""Where backups are kept, and what goes into one beside what always does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import Host

from gb10.facts.backups import Backups
from gb10.facts.reading.backups import BackupCopy
from gb10.operations.kit.peers import peer_fact
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import FULL

PROGRESS_SECONDS = 10.0  # between two reports of how far a long transfer is
KEEP_SECONDS = 3600
SILENCE_SECONDS = 300  # after which a node that makes or sends a backup is taken for dead


@dataclass(frozen=True)
class Keeping:
    """Where the backups of a node are kept, and for how long."""

    node: str  # its name, as in Kubernetes
    folder: str  # on the controller
    keepers: tuple[Host, ...]  # other nodes
    keeper_folder: str  # on those
    count: int | None = None
    days: int | None = None

    @property
    def keeper_names(self) -> str:
        """The names of the other nodes; empty if there are none."""
        return ", ".join(str(keeper.name) for keeper in self.keepers)

    def listed(self, keeper: Host) -> tuple[BackupCopy, ...]:
        """Return the copies of the node's backups that a keeper lists; none if it cannot be reached."""
        found = peer_fact(keeper, Backups, root=self.keeper_folder) or ()
        return tuple(copy for copy in found if copy.node == self.node)

    def unkept(self, error: OSError) -> RefusedError:
        """Return the refusal of a controller that cannot write to its folder."""
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_FAILED"
        return RefusedError(code, f"the controller cannot keep it in {self.folder}: {error.strerror}")


@dataclass(frozen=True)
class Wanted:
    """What goes into a backup beside what always does, and who may read it."""

    paths: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    hub: str = "/data/huggingface/hub"
    serving: Any = field(default=None, repr=False)  # the inventory's serving modes, which may hold secrets
    progress_seconds: float = PROGRESS_SECONDS
