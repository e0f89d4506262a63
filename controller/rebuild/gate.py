"""The gate before a wipe: what has to be proven, freshly, before anybody is asked to destroy a node.

The contract: nothing in here changes a node, and a proof that could not be made is a proof that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gb10.controller.errors import Gb10Error

# Name, and what it proves. These are the names that --override takes.
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
    """One demand of the gate: what was found, how old that is, and what to type where it is missing."""

    name: str
    holds: bool
    text: str
    age_seconds: float = 0.0
    remedy: str = ""
    override: str | None = None  # the reason for which a person does without it

    @property
    def passes(self) -> bool:
        return self.holds or self.override is not None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passes": self.passes}


def overridden(demands: Iterable[Demand], overrides: Mapping[str, str]) -> tuple[Demand, ...]:
    """Given demands and name -> reason, return them with the reasons for those that are missing."""
    return tuple(
        demand if demand.holds else Demand(**{**asdict(demand), "override": overrides.get(demand.name)})
        for demand in demands
    )


def check(demands: Iterable[Demand], host: str) -> None:
    """Raise GATE_CLOSED with what is missing, unless nothing is."""
    missing = [demand for demand in demands if not demand.passes]
    if missing:
        text = "; ".join(f"{demand.name}: {demand.text}" for demand in missing)
        raise Gb10Error("GATE_CLOSED", f"{host} must not be wiped yet. {text}", host=host)


def check_overrides(names: Iterable[str], reason: str | None) -> dict[str, str]:
    """Given what a person typed, return name -> reason. Raise USAGE for an unknown name or a missing reason."""
    names = tuple(names)
    for name in names:
        if name not in DEMANDS:
            raise Gb10Error("USAGE", reason=f"--override {name}: choose from {', '.join(DEMANDS)}")
    if names and not (reason or "").strip():
        raise Gb10Error("USAGE", reason="--override needs --reason TEXT: it stands in the journal")
    return dict.fromkeys(names, (reason or "").strip())
