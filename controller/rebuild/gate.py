"""The demands of the gate: what has to be proven, freshly, before a person is asked to wipe a node.

Nothing in here changes a node, and a proof that cannot be made counts as missing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target, TargetStep
from gb10.controller.rebuild.tools import Tools
from gb10.operations.copying.plan import human

ROOM_FACTOR = 1.1  # of what comes back, for what an estimate does not know

# Name -> what it proves. --override takes these names. The last one is demanded once all others are proven: it may take
# long.
DEMANDS = {
    "models": "every model of the node is whole on another node",
    "images": "every image of the node is in the engine of another node",
    "saved-images": "and saved on its data disk",
    "backup": "two keepers have a backup of the node that was proven by restoring it",
    "solo": "another node has answered alone for a while",
    "drained": "no pod that could be elsewhere is on the node",
    "lock": "nobody else works on the nodes",
    "room": "what is to come back has room on the node",
    "digests": "what another node keeps has the same sha256, file by file",
}


@dataclass(frozen=True)
class Demand:
    """One demand of the gate: what was found, how old that is, and what to type if it is missing."""

    name: str
    holds: bool
    text: str
    age_seconds: float = 0.0
    remedy: str = ""
    override: str | None = None  # why a person does without it

    @classmethod
    def of(cls, name: str, evidence: Evidence, age_seconds: float, remedy: str) -> Demand:
        """Return the demand with its evidence. The remedy is what to type if it does not hold."""
        return cls(name, evidence.holds, evidence.text, age_seconds, "" if evidence.holds else remedy)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Demand:
        """Read the result of `to_json`."""
        return cls(**{key: value for key, value in document.items() if key != "passes"})

    @property
    def passes(self) -> bool:
        return self.holds or self.override is not None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passes": self.passes}


class Safeguard(TargetStep):
    """A step that brings something to safety before the wipe."""

    proves: str  # the demand that it meets: if a person overrides that, the step is left out

    @abstractmethod
    def demand(self) -> Demand | None:
        """Return what the gate demands; None if there is nothing to prove."""


def lock_demand(hosts: Sequence[InventoryHost], tools: Tools) -> Demand:
    """Return the demand that the nodes are locked by this run."""
    for host in hosts:
        holder = tools.view.lock(host)
        if holder is None or holder.run != tools.journal.run:
            whose = f"is held by {holder.owner}@{holder.controller}" if holder else "is held by nobody"
            missing = Evidence(False, f"the lock of {host.name} {whose}")
            unlock = tools.person.command("rebuild unlock", host.name)
            return Demand.of("lock", missing, tools.view.age_seconds, unlock)
    return Demand.of("lock", Evidence(True, "all nodes are locked by this run"), tools.view.age_seconds, "")


def room_demand(target: Target) -> Demand:
    """Return the demand that the node's disk has room for what comes back."""
    size, wanted = target.view.data_bytes(target.host), int(target.now().model_bytes * ROOM_FACTOR)
    found = Evidence(wanted < size, f"{human(wanted)} come back, its disk has {human(size)}")
    return Demand.of("room", found, target.view.age_seconds, "Name less in rebuild_models (group_data/)")


def overridden(demands: Iterable[Demand], overrides: Mapping[str, str]) -> tuple[Demand, ...]:
    """Return the demands. A missing one that is overridden (name -> reason) has the reason in it."""
    return tuple(demand if demand.holds else replace(demand, override=overrides.get(demand.name)) for demand in demands)


def check_demands(demands: Iterable[Demand], host: str) -> None:
    """Raise GATE_CLOSED with what is missing, if anything is."""
    missing = [demand for demand in demands if not demand.passes]
    if missing:
        text = "; ".join(f"{demand.name}: {demand.text}" for demand in missing)
        raise Gb10Error("GATE_CLOSED", f"{host} must not be wiped yet. {text}", host=host)


def check_overrides(names: Iterable[str], reason: str | None) -> dict[str, str]:
    """Return name -> reason of what a person typed. Raise USAGE for an unknown name or a missing reason."""
    names = tuple(names)
    for name in names:
        if name not in DEMANDS:
            raise Gb10Error("USAGE", reason=f"--override {name}: choose from {', '.join(DEMANDS)}")
    if names and not (reason or "").strip():
        raise Gb10Error("USAGE", reason="--override needs --reason TEXT: it stands in the journal")
    return dict.fromkeys(names, (reason or "").strip())
