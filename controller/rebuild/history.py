"""What the journal of a run says about one node."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.controller.journal import Journal, moment
from gb10.controller.rebuild.memory import Memory, recall

RESTORE = "restore"  # the step that may be refused, and that a person may agree to
ACCEPTED = "accepted"  # a person has agreed to what speaks against a restore
REBOOTSTRAP = "rebootstrap"  # a person wants a new cluster


@dataclass(frozen=True)
class BackedUp:
    """The backup that is to be restored, and the places that had it proven."""

    backup: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class NodeHistory:
    """What the journal says about one node, each time anew."""

    journal: Journal
    node: str

    @property
    def memory(self) -> Memory | None:
        """The node as it was before, or None if nothing was written down yet."""
        return recall(self.journal, self.node)

    @property
    def began(self) -> float | None:
        """When the node was first written down, in seconds since the epoch."""
        first = next(self.journal.of("remembered", node=self.node), None)
        return moment(first["at"]).timestamp() if first else None

    @property
    def asked(self) -> bool:
        """Return True if somebody was asked to wipe the node."""
        return self.journal.last("wipe-asked", node=self.node) is not None

    @property
    def returned(self) -> bool:
        """Return True if the node was wiped and is back."""
        return self.journal.last("returned", node=self.node) is not None

    @property
    def new_host_key(self) -> str | None:
        """Fingerprint of the host key with which the wiped node came back; None until it is back."""
        record = self.journal.last("returned", node=self.node)
        return str(record["host_key"]) if record else None

    @property
    def backup(self) -> BackedUp | None:
        """The backup that the gate has seen."""
        record = self.journal.last("backed-up", node=self.node)
        return BackedUp(str(record["backup"]), tuple(record["places"])) if record else None

    @property
    def can_restore(self) -> bool:
        """Return True if a backup can be restored. Before the wipe that is for the gate to decide."""
        return not self.returned or self.backup is not None

    @property
    def overrides(self) -> dict[str, str]:
        """Proofs that the gate does without for this node, and why."""
        said = self.journal.of("overridden", node=self.node)
        found = {str(name): str(why) for record in said for name, why in record["overrides"].items()}
        if "images" in found:  # what is in no engine cannot be saved either
            found.setdefault("saved-images", found["images"])
        return found

    @property
    def accepted(self) -> list[str]:
        """Codes of what speaks against the restore of this node and a person has agreed to."""
        return sorted({str(code) for record in self.journal.of(ACCEPTED, node=self.node) for code in record["codes"]})

    @property
    def rebootstrap(self) -> bool:
        """Return True if a head is to come back with a new cluster."""
        return self.journal.last(REBOOTSTRAP) is not None

    def has_begun(self, step: str) -> bool:
        """Return True if a step of this node was begun."""
        return self.journal.last("step-began", node=self.node, step=step) is not None
