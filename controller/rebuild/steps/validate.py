"""validate: try the GPU, the rails and the cluster."""

from __future__ import annotations

from collections.abc import Iterable

from gb10.controller.cluster.validate import unproven, validate
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.memory import Memory
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.tools import Work
from gb10.group_data.settings import RebuildSettings

K3S_CHECKS = ("k3s", "gpu-operator", "network-operator", "gpu-allocatable", "rdma-allocatable")
RAIL_CHECKS = ("rails", "rail-mtu", "rail-bandwidth")


class Validate(Step):
    """Try what the nodes are for, but for the checks `without`. `whom` names the nodes in words."""

    name = "validate"

    def __init__(self, hosts: Iterable[InventoryHost], whom: str, without: Iterable[str], work: Work) -> None:
        self.title = f"Validate {whom}"
        self._hosts = tuple(hosts)
        self._whom = whom
        self._without = set(without)
        self._work = work
        self._passed = False  # in this very process

    def plan(self) -> str:
        return f"a container on the GPU of {self._whom}, packets on the rails, and what the cluster says"

    def verify(self) -> Evidence:
        if not self._passed:
            return Evidence(False, "it is tried anew each time")
        return Evidence(True, "GPU, rails and cluster do what they are for")

    def run(self) -> None:
        limit = [self._work.pattern(host.name) for host in self._hosts]
        found = validate(self._work.limited, limit, without=self._without, while_serving=True)
        if unproven(found):
            failed = [check for check in found.checks if check.outcome == found.outcome]
            raise Gb10Error("NOT_VALIDATED", "; ".join(f"{check.check}: {check.reason}" for check in failed) or None)
        self._passed = True


def untried(target: InventoryHost, memory: Memory) -> set[str]:
    """The checks that make no sense for a node: what was not there before is not asked for."""
    found = set(target.settings(RebuildSettings).validate_without)
    found |= set() if memory.k3s else set(K3S_CHECKS)
    found |= set() if "gpu-operator" in memory.operators else {"gpu-operator", "gpu-allocatable"}
    found |= set() if "network-operator" in memory.operators else {"network-operator", "rdma-allocatable"}
    return found | (set() if target.rails else set(RAIL_CHECKS))
