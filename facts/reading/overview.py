"""All that the status tells of a node."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.dgx import Release
from gb10.facts.reading.gpu import GpuState
from gb10.facts.reading.helm import HelmRelease
from gb10.facts.reading.identity import Identity
from gb10.facts.reading.k3s import K3sInstallation
from gb10.facts.reading.operators import (
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
)
from gb10.facts.reading.rdma import ConnectX7
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Overview(FactValue):
    """A node, its devices and, where it is the head, its cluster: each as the fact of that part describes it."""

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


def _json(value: Any) -> Any:
    if isinstance(value, FactValue):
        return value.to_json()
    return [_json(item) for item in value] if isinstance(value, tuple) else value
