"""The gate before a wipe: what has to be proven, freshly, before anybody is asked to destroy a node.

Nothing in here changes a node, and a proof that could not be made counts as missing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.step import Evidence, Step

# Name -> what it proves. These are the names that --override takes.
DEMANDS = {
    "models": "every model of the node is whole on another node",
    "images": "every image of the node is in the engine of another node",
    "saved-images": "and saved on its data disk",
    "backup": "two keepers have a backup of the node that was proven by restoring it",
    "solo": "another node has answered alone for a while",
    "drained": "no pod that could be elsewhere is on the node",
    "lock": "nobody else works on the nodes",
    "room": "what is to come back has room on the node",
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
        """A demand with its evidence; the remedy is what to type if it does not hold."""
        return cls(name, evidence.holds, evidence.text, age_seconds, "" if evidence.holds else remedy)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Demand:
        """Given what `to_json` returned, return it."""
        return cls(**{key: value for key, value in document.items() if key != "passes"})

    @property
    def passes(self) -> bool:
        return self.holds or self.override is not None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passes": self.passes}


class Proof(Protocol):
    """Something that the gate asks for."""

    def demand(self) -> Demand | None:
        """What was found; None if there is nothing to prove."""


class Safeguard(Step):
    """A step that brings something to safety before the wipe."""

    proves: str  # the demand of the gate: a step is left out when a person does without it

    @abstractmethod
    def demand(self) -> Demand | None:
        """What the gate is told; None if there is nothing to prove."""


def overridden(demands: Iterable[Demand], overrides: Mapping[str, str]) -> tuple[Demand, ...]:
    """Return the demands; a missing one that a person does without (name -> reason) has the reason in it."""
    return tuple(demand if demand.holds else replace(demand, override=overrides.get(demand.name)) for demand in demands)


def check(demands: Iterable[Demand], host: str) -> None:
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
