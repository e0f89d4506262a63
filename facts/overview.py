"""All that the status tells of a node, in one round trip: its parts are facts of their own, read side by side."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.cluster import ClusterNode, ClusterNodes
from gb10.facts.dgx import DgxRelease, Release
from gb10.facts.gpu import Gpu, GpuState
from gb10.facts.helm import HelmRelease, HelmReleases
from gb10.facts.identity import Identity, NodeIdentity
from gb10.facts.k3s import KUBECONFIG, K3sInstall, K3sInstallation
from gb10.facts.operators import (
    ClusterPolicy,
    ClusterPolicyState,
    GpuOperatorPods,
    NetworkOperatorPods,
    NicClusterPolicy,
    NicClusterPolicyState,
    OperatorPod,
)
from gb10.facts.rdma import ConnectX7, RdmaLinks
from gb10.facts.sections import understood
from gb10.facts.values import FactValue

MARK = "@@gb10-part "
# All parts run at once, and each prints when it has ended. Who prints holds a lock on a file that every system has,
# so that no two prints mix; nothing is written anywhere.
PRINT_PART = r"""p() { flock 9; printf '@@gb10-part %s\n%s\n' "$1" "$2"; };"""

NODE_PARTS: dict[str, FactBase[Any]] = {
    "identity": NodeIdentity(),
    "k3s": K3sInstall(),
    "connectx7": RdmaLinks(),
    "gpu": Gpu(),
    "dgx": DgxRelease(),
}
CLUSTER_PARTS: dict[str, FactBase[Any]] = {
    "nodes": ClusterNodes(),
    "cluster_policies": ClusterPolicyState(),
    "nic_cluster_policies": NicClusterPolicyState(),
    "gpu_operator_pods": GpuOperatorPods(),
    "network_operator_pods": NetworkOperatorPods(),
    "releases": HelmReleases(),
}
PARTS = {**NODE_PARTS, **CLUSTER_PARTS}
ARGUMENTS = {"releases": {"values": False}}  # values may hold secrets


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


class NodeOverview(FactBase[Overview]):
    """The overview of a node. A part that is not understood is in `troubles` and fails no other.

    The cluster is asked only where a K3s server has left its kubeconfig. Raises FactProcessError for the host whose
    output is no overview at all.
    """

    def command(self) -> StringCommand:
        node = " ".join(_call(name) for name in NODE_PARTS)
        cluster = " ".join(_call(name) for name in CLUSTER_PARTS)
        return StringCommand(PRINT_PART, node, f"if [ -e {KUBECONFIG} ]; then", cluster, "fi; wait")

    @understood
    def process(self, output: list[str]) -> Overview:
        found = _read_parts(output)
        if missing := NODE_PARTS.keys() - found.keys():
            raise ValueError(f"nothing about {', '.join(sorted(missing))}")
        values: dict[str, Any] = {}
        troubles: dict[str, str] = {}
        for name, lines in found.items():
            try:
                values[name] = PARTS[name].process(lines)
            except FactProcessError as error:
                troubles[name] = str(error)
        return Overview(**values, troubles=troubles)


def _call(name: str) -> str:
    command = StringCommand(PARTS[name].command(**ARGUMENTS.get(name, {}))).get_raw_value()
    return f'( said=$({command}); p {name} "$said" ) 9</bin/sh &'


def _read_parts(output: list[str]) -> dict[str, list[str]]:
    """Given what the command printed, return the lines of each part."""
    found: dict[str, list[str]] = {}
    name = None
    for line in output:
        if line.startswith(MARK):
            name = line.removeprefix(MARK)
            if name not in PARTS or name in found:
                raise ValueError(f"a part {name!r} was not asked for")
            found[name] = []
        elif name is not None:
            found[name].append(line)
    return found


def _json(value: Any) -> Any:
    if isinstance(value, FactValue):
        return value.to_json()
    return [_json(item) for item in value] if isinstance(value, tuple) else value
