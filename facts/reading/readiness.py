"""NVIDIA's operators: their names, and why one is not ready."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.operators import (
    GPU_NAMESPACE,
    NETWORK_NAMESPACE,
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
)

MOST_PODS = 3  # that are named; the others are counted
LONGEST = 200
IN_TURN = ("PodInitializing", "ContainerCreating")


@dataclass(frozen=True)
class Operator:
    """An operator. The names are NVIDIA's."""

    release: str  # of helm, and the chart's name too
    namespace: str
    kind: str  # of its policies
    policy: str  # the one that counts: nobody heeds others
    resource: str  # what every node offers when it is ready
    groups: tuple[str, ...]  # of the definitions that its chart brings


GPU = Operator(
    release="gpu-operator",
    namespace=GPU_NAMESPACE,
    kind="ClusterPolicy",
    policy="cluster-policy",
    resource="nvidia.com/gpu",
    groups=("nvidia.com", "resource.nvidia.com"),
)
NETWORK = Operator(
    release="network-operator",
    namespace=NETWORK_NAMESPACE,
    kind="NicClusterPolicy",
    policy="nic-cluster-policy",
    resource="rdma/rdma_shared_device_a",
    groups=(
        "mellanox.com",
        "k8s.cni.cncf.io",
        "maintenance.nvidia.com",
        "sriovnetwork.openshift.io",
        "sriovnetwork.k8snetworkplumbingwg.io",
    ),
)

Policies = Sequence[ClusterPolicy] | Sequence[NicClusterPolicy]


def own_policy(operator: Operator, policies: Policies) -> ClusterPolicy | NicClusterPolicy | None:
    """Return the policy that an operator heeds, or None."""
    return next((policy for policy in policies if policy.name == operator.policy), None)


def lacking(
    operator: Operator, amount: int, policies: Policies | None, nodes: Sequence[ClusterNode] | None
) -> list[str]:
    """Return what an operator lacks to be ready, in words; nothing if it is.

    + amount: how much of its resource every node must offer at least
    + policies, nodes: of the cluster; None where no API server answers
    """
    if policies is None or nodes is None:
        return ["the API server does not answer"]
    return [*_policy_lacks(operator, policies), *_nodes_lack(operator.resource, amount, nodes)]


def _policy_lacks(operator: Operator, policies: Policies) -> Iterator[str]:
    policy = own_policy(operator, policies)
    if policy is None:
        yield f"it has no policy {operator.policy}"
    elif not policy.ready:
        parts = policy.lagging if isinstance(policy, NicClusterPolicy) else ()
        lagging = "".join(f", {part.name} is {part.state}" for part in parts)
        yield f"its policy is {policy.state or 'without a state yet'}{lagging}"
        if policy.trouble:
            yield policy.trouble


def _nodes_lack(resource: str, amount: int, nodes: Sequence[ClusterNode]) -> Iterator[str]:
    short = [node for node in nodes if node.offers(resource) < amount]
    without = [node.name for node in short if not node.offers(resource)]
    if without:
        yield f"{', '.join(without)} offer{'s' if len(without) == 1 else ''} no {resource}"
    for node in short:
        if node.name not in without:
            yield f"{node.name} offers {node.offers(resource)} {resource}, wanted {amount}"
        if not node.ready:
            yield f"{node.name} is not Ready: {node.reason}"


def waiting(pods: Iterable[OperatorPod]) -> list[OperatorPod]:
    """Return the pods that do not do their work."""
    return [pod for pod in pods if not pod.healthy]


def why_waiting(pods: Iterable[OperatorPod]) -> list[str]:
    """Say of each pod that waits for what it waits. Pods explain why an operator is not ready; they decide nothing."""
    waits = waiting(pods)
    said = [_pod(pod) for pod in waits[:MOST_PODS]]
    return [*said, f"{len(waits) - MOST_PODS} more pods wait"] if len(waits) > MOST_PODS else said


def _pod(pod: OperatorPod) -> str:
    where = f" on {pod.node}" if pod.node else ""
    # What waits only for another container of the pod explains nothing.
    causes = [why for why in pod.waiting if not why.endswith(IN_TURN)] or list(pod.waiting[:1])
    why = f" ({'; '.join(causes)[:LONGEST]})" if causes else ""
    return f"pod {pod.name}{where} is {pod.status}{why}"
