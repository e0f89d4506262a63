"""Which node may get a backup: reasons to refuse one that is not of this node, or that would break it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gb10.facts.reading.node import ARCHITECTURES, Identity
from gb10.facts.reading.reports import Refused
from gb10.programs.archive.manifest import Manifest


def foreign(manifest: Manifest, node: str, identity: Identity) -> Iterator[Refused]:
    """Yield the reasons why a backup is of another node, or of another machine."""
    if manifest.node != node:
        yield Refused("RESTORE_OTHER_NODE", f"the backup {manifest.id} is of {manifest.node}")
    machine = manifest.about.get("machine") or {}
    architecture = machine.get("architecture")
    if architecture and ARCHITECTURES.get(architecture, architecture) != identity.architecture:
        yield Refused(
            "RESTORE_OTHER_MACHINE",
            f"the backup {manifest.id} is of a machine with {architecture}, and this has {identity.architecture}",
        )
    theirs, ours = _macs(machine.get("macs")), _macs(identity.macs)
    if theirs and ours and not theirs & ours:
        yield Refused(
            "RESTORE_OTHER_MACHINE",
            f"the backup {manifest.id} is of a machine with the MACs {', '.join(sorted(theirs))}, and this has "
            f"{', '.join(sorted(ours))}",
        )


def _macs(found: Any) -> set[str]:
    values = found.values() if isinstance(found, Mapping) else found or ()
    return {str(mac).lower() for mac in values}


def unproven(backup: str, reasons: Sequence[str]) -> Refused:
    """Return the refusal of a backup of which no copy is proven."""
    why = "; ".join(reasons) or "nobody has tried it"
    return Refused("RESTORE_UNPROVEN", f"no copy of {backup} is proven: {why}")


def after_wipe(backup: str, former: str) -> Refused:
    """Return the refusal of a backup that nobody named, and that was made between a wipe and the restore."""
    return Refused(
        "RESTORE_AFTER_WIPE",
        f"the newest backup, {backup}, is of the new installation, with its host keys; {former} is of the one before",
    )


def other_k3s(manifest: Manifest, installed: str | None, wanted: str) -> Iterator[Refused]:
    """Yield the refusal of K3s' state for another version than the one that is, or is going to be, installed."""
    told = (manifest.about.get("versions") or {}).get("k3s")
    found, word = (installed, "has") if installed else (wanted, "is to get")
    if told and told != found:
        yield Refused("RESTORE_K3S_VERSION", f"the backup {manifest.id} is of K3s {told}, and this node {word} {found}")
