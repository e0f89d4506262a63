"""What the journal of a run says about one node."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.controller.journal import Journal, moment
from gb10.controller.rebuild.snapshot import Snapshot


@dataclass(frozen=True)
class NodeHistory:
    """What the journal says about one node, read again at each access."""

    journal: Journal
    node: str

    @property
    def snapshot(self) -> Snapshot | None:
        """The node as it was before its wipe, or None if that was not recorded yet."""
        record = self.journal.last("remembered", node=self.node)
        return Snapshot.from_json(record["memory"]) if record else None

    @property
    def began(self) -> float | None:
        """When the node was first recorded, in seconds since the epoch."""
        first = next(self.journal.of("remembered", node=self.node), None)
        return moment(first["at"]).timestamp() if first else None

    @property
    def asked(self) -> bool:
        """True if a person was asked to wipe the node."""
        return self.journal.last("wipe-asked", node=self.node) is not None

    @property
    def returned(self) -> bool:
        """True if the node was wiped and is back."""
        return self.journal.last("returned", node=self.node) is not None

    @property
    def new_host_key(self) -> str | None:
        """Fingerprint of the host key that the wiped node came back with; None until it is back."""
        record = self.journal.last("returned", node=self.node)
        return str(record["host_key"]) if record else None

    @property
    def backup(self) -> str | None:
        """The id of the backup that the gate has accepted."""
        record = self.journal.last("backed-up", node=self.node)
        return str(record["backup"]) if record else None

    @property
    def backup_places(self) -> tuple[str, ...]:
        """The places that have this backup, proven."""
        record = self.journal.last("backed-up", node=self.node)
        return tuple(record["places"]) if record else ()

    @property
    def can_restore(self) -> bool:
        """True if a backup can be restored. Before the wipe the gate decides about that."""
        return not self.returned or self.backup is not None

    @property
    def overrides(self) -> dict[str, str]:
        """The proofs that the gate does not demand for this node, each with the reason."""
        records = self.journal.of("overridden", node=self.node)
        found = {str(name): str(why) for record in records for name, why in record["overrides"].items()}
        if "images" in found:  # an image that is in no engine cannot be saved either
            found.setdefault("saved-images", found["images"])
        return found

    @property
    def accepted(self) -> list[str]:
        """The codes of refusals of the restore that a person has accepted for this node."""
        return sorted({str(code) for record in self.journal.of("accepted", node=self.node) for code in record["codes"]})

    @property
    def rebootstrap(self) -> bool:
        """True if a person wants a head to come back with a new cluster."""
        return self.journal.last("rebootstrap") is not None

    def has_begun(self, step: str) -> bool:
        """Return True if a step of this node was begun."""
        return self.journal.last("step-began", node=self.node, step=step) is not None
