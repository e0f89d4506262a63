"""All that the status shows of a node."""

from __future__ import annotations

from dataclasses import dataclass, field

from gb10.facts.reading.cluster import ClusterNode, HelmRelease
from gb10.facts.reading.k3s import K3sInstallation
from gb10.facts.reading.node import GpuState, Identity, Release
from gb10.facts.reading.operators import (
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
)
from gb10.facts.reading.rdma import ConnectX7
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class ClusterOverview(FactValue):
    """A cluster, as the API server on its head describes it: each part is the value of a fact."""

    nodes: tuple[ClusterNode, ...] | None = None
    cluster_policies: tuple[ClusterPolicy, ...] | None = None
    nic_cluster_policies: tuple[NicClusterPolicy, ...] | None = None
    gpu_operator_pods: tuple[OperatorPod, ...] | None = None
    network_operator_pods: tuple[OperatorPod, ...] | None = None
    releases: tuple[HelmRelease, ...] | None = None


@dataclass(frozen=True)
class Overview(ClusterOverview):
    """A node, its devices and, on the head, its cluster: each part is the value of a fact."""

    identity: Identity | None = None
    k3s: K3sInstallation | None = None
    connectx7: ConnectX7 | None = None
    gpu: GpuState | None = None
    dgx: Release | None = None
    troubles: dict[str, str] = field(default_factory=dict)  # part -> why it could not be read; it is None then
