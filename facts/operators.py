"""NVIDIA's operators, as the API server on a head node tells it.

An operator is ready when its policy's state says so and every node shows the allocatable resource (`ClusterNodes`),
not when some pod runs.
"""

from __future__ import annotations

import shlex
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.operators import (
    GPU_NAMESPACE,
    NETWORK_NAMESPACE,
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
    WarningEvent,
    read_cluster_policy,
    read_event,
    read_items,
    read_nic_cluster_policy,
    read_pod,
)
from gb10.facts.reading.sections import read_sections


class OperatorPods(FactBase[tuple[OperatorPod, ...] | None]):
    """Pods of a namespace by name; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, namespace: str) -> StringCommand:
        return sections({"pods": f"{KUBECTL} -n {shlex.quote(namespace)} get pods -o json"})

    @understood
    def process(self, output: list[str]) -> tuple[OperatorPod, ...] | None:
        section = read_sections(output)["pods"]
        if section.status != 0:
            return None
        return tuple(sorted((read_pod(item) for item in read_items(section)), key=lambda pod: pod.name))


class GpuOperatorPods(OperatorPods):
    """Pods of the GPU Operator; None where no API server answers on this host."""

    def command(self, namespace: str = GPU_NAMESPACE) -> StringCommand:
        return super().command(namespace)


class NetworkOperatorPods(OperatorPods):
    """Pods of the Network Operator; None where no API server answers on this host."""

    def command(self, namespace: str = NETWORK_NAMESPACE) -> StringCommand:
        return super().command(namespace)


class OperatorWarnings(FactBase[tuple[WarningEvent, ...] | None]):
    """Warning events of a namespace, oldest first; None where no API server answers on this host.

    Why a pod's sandbox cannot be made (a missing runtime, say) stands nowhere else.
    """

    def command(self, namespace: str) -> StringCommand:
        select = "--field-selector type=Warning"
        return sections({"events": f"{KUBECTL} -n {shlex.quote(namespace)} get events {select} -o json"})

    @understood
    def process(self, output: list[str]) -> tuple[WarningEvent, ...] | None:
        section = read_sections(output)["events"]
        if section.status != 0:
            return None
        return tuple(
            sorted((read_event(item) for item in read_items(section)), key=lambda event: event.last_seen or "")
        )


class ClusterPolicyState(FactBase[tuple[ClusterPolicy, ...] | None]):
    """Policies of the GPU Operator, none where it is not installed; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return _policies("clusterpolicies.nvidia.com")

    @understood
    def process(self, output: list[str]) -> tuple[ClusterPolicy, ...] | None:
        items = _policy_items(output)
        return None if items is None else tuple(read_cluster_policy(item) for item in items)


class NicClusterPolicyState(FactBase[tuple[NicClusterPolicy, ...] | None]):
    """Policies of the Network Operator, none where it is not installed; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return _policies("nicclusterpolicies.mellanox.com")

    @understood
    def process(self, output: list[str]) -> tuple[NicClusterPolicy, ...] | None:
        items = _policy_items(output)
        return None if items is None else tuple(read_nic_cluster_policy(item) for item in items)


def _policies(resource: str) -> StringCommand:
    # A resource that nobody defined and a server that does not answer both end with status 1: the definition tells
    # them apart.
    return sections(
        {
            "definition": f"{KUBECTL} get crd {resource} --ignore-not-found -o name",
            "policies": f"{KUBECTL} get {resource} -o json",
        }
    )


def _policy_items(output: list[str]) -> list[dict[str, Any]] | None:
    found = read_sections(output)
    if found["definition"].status != 0:
        return None
    if not found["definition"].text.strip():
        return []
    return None if found["policies"].status != 0 else read_items(found["policies"])
