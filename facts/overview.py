"""All facts that the status shows of a node, read in one round trip."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from gb10.facts.helm import READ_SECRETS, HelmReleases
from gb10.facts.identity import DgxRelease, NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.node import Gpu
from gb10.facts.operators import ClusterPolicyState, NicClusterPolicyState
from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.cluster import read_items, read_nodes
from gb10.facts.reading.k3s import KUBECONFIG, KUBECTL
from gb10.facts.reading.launcher import Launch, ProgramFact, SectionsFact
from gb10.facts.reading.operators import GPU_NAMESPACE, NETWORK_NAMESPACE, ClusterPolicy, NicClusterPolicy, read_pods
from gb10.facts.reading.overview import Overview
from gb10.facts.reading.requests import sections_job
from gb10.facts.reading.values import read_answer

Items = list[dict[str, Any]]

# Slow ones first.
NODE_PARTS: dict[str, SectionsFact[Any]] = {
    "gpu": Gpu(),
    "connectx7": RdmaLinks(),
    "k3s": K3sInstall(),
    "identity": NodeIdentity(),
    "dgx": DgxRelease(),
}
RELEASES = "releases"
# The other facts of the cluster are read from one answer of the API server: a call costs more than what it brings.
CLUSTER = "cluster"
DEFINITIONS = f"{ClusterPolicyState.resource} {NicClusterPolicyState.resource}"
READ_CLUSTER = f"""kinds=nodes,pods
defined=$({KUBECTL} get crd {DEFINITIONS} --ignore-not-found -o name) || exit 1
for name in $defined; do kinds=$kinds,${{name#*/}}; done
{KUBECTL} get "$kinds" -A -o json"""

CLUSTER_PARTS: dict[str, Callable[[Items], Any]] = {
    "nodes": lambda items: read_nodes(_of(items, "Node")),
    "cluster_policies": lambda items: tuple(map(ClusterPolicy.read, _of(items, "ClusterPolicy"))),
    "nic_cluster_policies": lambda items: tuple(map(NicClusterPolicy.read, _of(items, "NicClusterPolicy"))),
    "gpu_operator_pods": lambda items: read_pods(_of(items, "Pod", GPU_NAMESPACE)),
    "network_operator_pods": lambda items: read_pods(_of(items, "Pod", NETWORK_NAMESPACE)),
}


class NodeOverview(ProgramFact[Overview]):
    """The overview of a node. A part that is not understood is in `troubles` and fails no other.

    The cluster is asked only where a K3s server has left its kubeconfig. Raises FactProcessError for the host whose
    answer is no overview at all.
    """

    def command(self) -> Launch:
        job = {
            "parts": {name: fact.command().job for name, fact in NODE_PARTS.items()},
            "cluster": {
                CLUSTER: sections_job({CLUSTER: READ_CLUSTER}),
                RELEASES: sections_job({RELEASES: READ_SECRETS}),
            },
            "server": KUBECONFIG,
        }
        return Launch("gb10.programs.overview:main", job)

    def read(self, answer: Any) -> Overview:
        if missing := NODE_PARTS.keys() - answer.keys():
            raise ValueError(f"nothing about {', '.join(sorted(missing))}")
        readings = {name: partial(fact.understand, answer[name]) for name, fact in NODE_PARTS.items()}
        if RELEASES in answer:
            readings[RELEASES] = partial(HelmReleases().understand, answer[RELEASES])
        if CLUSTER in answer:
            items = cache(partial(_items, answer[CLUSTER]))
            readings |= {part: partial(_cluster_part, read, items) for part, read in CLUSTER_PARTS.items()}
        values: dict[str, Any] = {}
        troubles: dict[str, str] = {}
        for part, reading in readings.items():
            try:
                values[part] = reading()
            except Exception as error:  # whatever it is, the other parts stand
                troubles[part] = str(error)
        return Overview(**values, troubles=troubles)


def _items(answer: Any) -> Items | None:
    """Return the objects that the API server listed, or None if it did not answer."""
    return read_items(read_answer(answer)[CLUSTER])


def _cluster_part(read: Callable[[Items], Any], items: Callable[[], Items | None]) -> Any:
    found = items()
    return None if found is None else read(found)


def _of(items: Items, kind: str, namespace: str | None = None) -> Items:
    chosen = [item for item in items if item["kind"] == kind]
    return [item for item in chosen if namespace in (None, item["metadata"].get("namespace"))]
