"""All that the status shows of a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from gb10.facts.reading.cluster import ClusterNode, HelmRelease, read_nodes
from gb10.facts.reading.gpu import GpuState
from gb10.facts.reading.k3s import K3sInstallation
from gb10.facts.reading.node import Identity, Release
from gb10.facts.reading.operators import (
    GPU_NAMESPACE,
    NETWORK_NAMESPACE,
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
    read_cluster_policy,
    read_nic_cluster_policy,
    read_pods,
)
from gb10.facts.reading.rdma import ConnectX7
from gb10.facts.reading.values import FactValue

Items = list[dict[str, Any]]


@dataclass(frozen=True)
class Overview(FactValue):
    """A node, its devices and, on the head, its cluster: each part is the value of a fact."""

    identity: Identity | None = None
    k3s: K3sInstallation | None = None
    connectx7: ConnectX7 | None = None
    gpu: GpuState | None = None
    dgx: Release | None = None
    nodes: tuple[ClusterNode, ...] | None = None
    cluster_policies: tuple[ClusterPolicy, ...] | None = None
    nic_cluster_policies: tuple[NicClusterPolicy, ...] | None = None
    gpu_operator_pods: tuple[OperatorPod, ...] | None = None
    network_operator_pods: tuple[OperatorPod, ...] | None = None
    releases: tuple[HelmRelease, ...] | None = None
    troubles: dict[str, str] = field(default_factory=dict)  # part -> why it could not be read; it is None then

    def to_json(self) -> dict[str, Any]:
        return {entry.name: _json(getattr(self, entry.name)) for entry in fields(self)}


CLUSTER_PARTS: dict[str, Callable[[Items], Any]] = {
    "nodes": lambda items: read_nodes(_of(items, "Node")),
    "cluster_policies": lambda items: tuple(map(read_cluster_policy, _of(items, "ClusterPolicy"))),
    "nic_cluster_policies": lambda items: tuple(map(read_nic_cluster_policy, _of(items, "NicClusterPolicy"))),
    "gpu_operator_pods": lambda items: read_pods(_of(items, "Pod", GPU_NAMESPACE)),
    "network_operator_pods": lambda items: read_pods(_of(items, "Pod", NETWORK_NAMESPACE)),
}


def _of(items: Items, kind: str, namespace: str | None = None) -> Items:
    chosen = [item for item in items if item["kind"] == kind]
    return [item for item in chosen if namespace in (None, item["metadata"].get("namespace"))]


def _json(value: Any) -> Any:
    if isinstance(value, FactValue):
        return value.to_json()
    return [_json(item) for item in value] if isinstance(value, tuple) else value
