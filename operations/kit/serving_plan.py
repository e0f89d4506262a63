"""What is to serve where, and how far the nodes are from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gb10.facts.reading.serving import NodeServing
from gb10.group_data.settings import CLUSTER, OFF, ModeName, ModeSettings, Role, ServingSettings
from gb10.operations.kit.serving_modes import spec_of


class Verdict(Enum):
    """How far the nodes are from a plan."""

    SERVES = "it serves as it should"
    STARTING = "it was started as it should be, and loads"
    WRONG = "it has to be started anew"


@dataclass(frozen=True)
class Plan:
    """What is to serve. `members` are the nodes that do, the one that answers first; none without a mode."""

    mode: ModeName | None  # None: nothing is to serve
    members: tuple[str, ...]
    settings: ServingSettings

    @property
    def label(self) -> str:
        return self.mode or OFF

    @property
    def own(self) -> ModeSettings | None:
        return self.settings.modes[self.mode] if self.mode else None

    @property
    def model(self) -> str | None:
        """The name under which the model is to be offered, or None if only its launcher knows it."""
        return self.own.name if self.own else None

    @property
    def spec(self) -> str | None:
        return spec_of(self.settings, self.mode, self.members) if self.mode else None

    def rank(self, node: str) -> int | None:
        """The place of a node among those that serve, or None."""
        return self.members.index(node) if node in self.members else None


def role_of(rank: int) -> Role:
    """Given a node's place, return its role: the first answers."""
    return "worker" if rank else "head"


def verdict(plan: Plan, states: Mapping[str, NodeServing | None]) -> Verdict:
    """Given what serves on the nodes (None where nobody knows), return how far they are from a plan."""
    others = (state for name, state in states.items() if name not in plan.members and state)
    if any(state.mode != "off" or running(state) for state in others):
        return Verdict.WRONG
    found = [states.get(name) for name in plan.members]
    placed = [state for state in found if state is not None and fits(plan, state)]
    if len(placed) < len(found):
        return Verdict.WRONG
    return _answering(plan, placed[0]) if placed else Verdict.SERVES


def fits(plan: Plan, state: NodeServing) -> bool:
    """Given what serves on a member, return whether it runs what it should, whether that answers or not."""
    if plan.mode is None or state.mode not in (plan.mode, "undecided"):
        return False
    if state.mode == "undecided" and not (plan.mode == CLUSTER and state.helps):
        return False
    others = [one for one in state.ours if one.running and one.mode != plan.mode]
    if others:
        return False
    own = state.container(plan.mode)
    # What somebody else started in this mode is as good, as long as it answers for the wanted model.
    return own is None or not own.running or own.spec == plan.spec


def _answering(plan: Plan, state: NodeServing) -> Verdict:
    """Return how far the node that answers is."""
    if not state.wrong(plan.members[0], plan.model):
        return Verdict.SERVES
    if state.health != "none" or not plan.mode:
        return Verdict.WRONG
    age = max((engine.age_seconds for engine in state.engines), default=0.0)
    return Verdict.STARTING if age < plan.settings.load_seconds_of(plan.mode) else Verdict.WRONG


def running(state: NodeServing) -> bool:
    """Whether a container of ours runs on a node."""
    return any(container.running for container in state.ours)
