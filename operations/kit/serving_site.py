"""The nodes of one change of serving, and what serves on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.reading.serving import NodeServing
from gb10.facts.serving import ServingState
from gb10.operations.kit.failures import known
from gb10.operations.kit.peers import read_facts
from gb10.operations.kit.serving_modes import Seat
from gb10.operations.kit.serving_plan import Plan

States = Mapping[str, NodeServing | None]


@dataclass(frozen=True)
class Site:
    """What a node needs to know of itself and the others. `seats` are its places, by the modes that give it one."""

    nodes: tuple[Host, ...]  # the hosts of this run
    members: tuple[Host, ...]  # those that are to serve, in their order
    patterns: tuple[str, ...]  # names of containers that may be serving
    home: str  # of Hugging Face
    interfaces: tuple[str, ...]  # of the rails
    seats: Mapping[str, Seat]


def states_of(plan: Plan, site: Site, nodes: Sequence[Host]) -> States:
    """Return what serves on nodes, None for each that cannot be reached."""
    arguments = {
        "port": plan.settings.port,
        "marks": plan.settings.marks,
        "patterns": site.patterns,
        "complete_seconds": plan.settings.completion_seconds,
    }
    if [node.name for node in nodes] == [host.name]:
        return {host.name: known(ServingState, **arguments)}
    found = read_facts(*((node, ServingState, arguments) for node in nodes))
    return {node.name: value for node, value in zip(nodes, found, strict=True)}
