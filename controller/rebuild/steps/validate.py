"""validate: try the GPU, the rails and the cluster."""

from __future__ import annotations

from collections.abc import Iterable

from gb10.controller.cluster.validate import unproven, validate
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.target import Target
from gb10.controller.rebuild.tools import Deploys
from gb10.group_data.settings import RebuildSettings

K3S_CHECKS = ("k3s", "gpu-operator", "network-operator", "gpu-allocatable", "rdma-allocatable")
RAIL_CHECKS = ("rails", "rail-mtu", "rail-bandwidth")


class Validate(Step):
    """Try the nodes, all of them if none are given, except for the checks `without`. `whom` names them in words."""

    name = "validate"

    def __init__(self, hosts: Iterable[str], whom: str, without: set[str], deploys: Deploys) -> None:
        self.title = f"Validate {whom}"
        self._hosts = hosts
        self._whom = whom
        self._without = without
        self._deploys = deploys
        self._passed = False  # in this process

    def plan(self) -> str:
        return f"a container on the GPU of {self._whom}, packets on the rails, and what the cluster says"

    def verify(self) -> Evidence:
        if not self._passed:
            return Evidence(False, "every run tries it again")
        return Evidence(True, "GPU, rails and cluster do what they are for")

    def run(self) -> None:
        limit = [self._deploys.pattern(name) for name in self._hosts]
        found = validate(self._deploys.make_runner, limit, without=self._without, while_serving=True)
        if unproven(found):
            failed = [check for check in found.checks if check.outcome == found.outcome]
            raise Gb10Error("NOT_VALIDATED", "; ".join(f"{check.check}: {check.reason}" for check in failed) or None)
        self._passed = True


def checks_to_skip(target: Target) -> set[str]:
    """Return the checks of things that the node does not have or did not have before."""
    found, snapshot = set(target.host.settings(RebuildSettings).validate_without), target.snapshot
    found |= set() if snapshot.k3s else set(K3S_CHECKS)
    found |= set() if "gpu-operator" in snapshot.operators else {"gpu-operator", "gpu-allocatable"}
    found |= set() if "network-operator" in snapshot.operators else {"network-operator", "rdma-allocatable"}
    return found | (set() if target.host.rails else set(RAIL_CHECKS))
