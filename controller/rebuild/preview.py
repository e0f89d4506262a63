"""What the rebuild of a node would do, shown before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.step import Kind
from gb10.controller.rebuild.steps.gate import Gate


@dataclass(frozen=True)
class StepPreview:
    """A step, and what it would do now."""

    name: str
    title: str
    plan: str
    kind: Kind
    destroys: bool
    seconds_last_time: float | None


@dataclass(frozen=True)
class Preview:
    """The steps of a node, what a person has to do, what is lost, and what the gate would be told now."""

    node: str
    steps: tuple[StepPreview, ...]
    person: tuple[str, ...]
    risks: tuple[str, ...]
    gate: tuple[Demand, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "steps": [asdict(step) for step in self.steps],
            "person": list(self.person),
            "risks": list(self.risks),
            "gate": [demand.to_json() for demand in self.gate],
        }


def preview(plan: NodePlan, last: Mapping[str, float]) -> Preview:
    """Ask the nodes what the steps would do now. `last` says how long each step took the last time, in seconds."""
    steps = plan.steps()
    gate = next((step for step in steps if isinstance(step, Gate)), None)
    return Preview(
        node=plan.target.name,
        gate=gate.demands() if gate else (),
        risks=tuple(plan.box.risks()),
        person=tuple(plan.box.instructions()),
        steps=tuple(
            StepPreview(step.name, step.title, step.plan(), step.kind, step.destroys, last.get(step.name))
            for step in steps
        ),
    )
