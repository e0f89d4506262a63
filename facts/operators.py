"""NVIDIA's operators, as the API server on a head node describes them.

An operator is ready when its policy's state says so and every node shows the allocatable resource (`ClusterNodes`),
not when some pod runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Generic, TypeVar

from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.operators import (
    GPU_NAMESPACE,
    NETWORK_NAMESPACE,
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
    WarningEvent,
    read_cluster_policy,
    read_events,
    read_items,
    read_nic_cluster_policy,
    read_pods,
    read_policies,
)
from gb10.facts.reading.sections import Section

Value = TypeVar("Value")


class OperatorPods(SectionsFact[tuple[OperatorPod, ...] | None]):
    """Pods of a namespace by name; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, namespace: str) -> Launch:
        return self.sections({"pods": f"{KUBECTL} -n {shlex.quote(namespace)} get pods -o json"})

    def read_sections(self, found: Mapping[str, Section]) -> tuple[OperatorPod, ...] | None:
        section = found["pods"]
        if section.status != 0:
            return None
        return read_pods(read_items(section))


class GpuOperatorPods(OperatorPods):
    """Pods of the GPU Operator; None where no API server answers on this host."""

    def command(self, namespace: str = GPU_NAMESPACE) -> Launch:
        return super().command(namespace)


class NetworkOperatorPods(OperatorPods):
    """Pods of the Network Operator; None where no API server answers on this host."""

    def command(self, namespace: str = NETWORK_NAMESPACE) -> Launch:
        return super().command(namespace)


class OperatorWarnings(SectionsFact[tuple[WarningEvent, ...] | None]):
    """Warning events of a namespace, oldest first; None where no API server answers on this host.

    Why a pod's sandbox cannot be made (a missing runtime, say) stands nowhere else.
    """

    def command(self, namespace: str) -> Launch:
        select = "--field-selector type=Warning"
        return self.sections({"events": f"{KUBECTL} -n {shlex.quote(namespace)} get events {select} -o json"})

    def read_sections(self, found: Mapping[str, Section]) -> tuple[WarningEvent, ...] | None:
        section = found["events"]
        if section.status != 0:
            return None
        return read_events(read_items(section))


class _PolicyState(SectionsFact[Value], Generic[Value]):
    """Policies of one kind."""

    resource: str

    def command(self) -> Launch:
        # A resource that nobody defined and a server that does not answer both end with status 1: the definition tells
        # them apart.
        return self.sections(
            {
                "definition": f"{KUBECTL} get crd {self.resource} --ignore-not-found -o name",
                "policies": f"{KUBECTL} get {self.resource} -o json",
            }
        )


class ClusterPolicyState(_PolicyState[tuple[ClusterPolicy, ...] | None]):
    """Policies of the GPU Operator, none where it is not installed; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    resource = "clusterpolicies.nvidia.com"

    def read_sections(self, found: Mapping[str, Section]) -> tuple[ClusterPolicy, ...] | None:
        return read_policies(found, read_cluster_policy)


class NicClusterPolicyState(_PolicyState[tuple[NicClusterPolicy, ...] | None]):
    """Policies of the Network Operator, none where it is not installed; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    resource = "nicclusterpolicies.mellanox.com"

    def read_sections(self, found: Mapping[str, Section]) -> tuple[NicClusterPolicy, ...] | None:
        return read_policies(found, read_nic_cluster_policy)
