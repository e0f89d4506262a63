"""NVIDIA's operators: their names, policies, pods and warnings, and why one is not ready."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.values import FactValue

GPU_NAMESPACE = "gpu-operator"
NETWORK_NAMESPACE = "nvidia-network-operator"
# Labels that name what a pod is for, best first.
COMPONENT_LABELS = ("app", "app.kubernetes.io/component", "app.kubernetes.io/name", "name")
UNHURT = frozenset({"ready", "ignore"})
STARTING = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class OperatorPod(FactValue):
    """A pod of an operator."""

    name: str
    component: str
    node: str | None  # None until it is scheduled
    phase: str
    status: str  # one word, as kubectl shows it: Running, Completed, Init:0/4, ImagePullBackOff
    ready_containers: int
    total_containers: int
    restarts: int  # init containers included
    waiting: tuple[str, ...]  # why it does not run: "container: reason: message"

    @property
    def healthy(self) -> bool:
        """True if it runs well or has succeeded: a Completed validator is a success."""
        running = self.phase == "Running" and self.ready_containers == self.total_containers
        return self.phase == "Succeeded" or (running and self.status == "Running")

    also = ("healthy",)


@dataclass(frozen=True)
class WarningEvent(FactValue):
    """An event of type Warning."""

    about: str  # "Pod/nvidia-operator-validator-th4w7"
    reason: str
    message: str
    count: int
    last_seen: str | None  # RFC 3339


@dataclass(frozen=True)
class ClusterPolicy(FactValue):
    """The GPU Operator's policy. `state` is None until the operator has reported one."""

    name: str
    state: str | None  # ready, notReady, ignored
    trouble: str | None  # what the operator complains about

    @classmethod
    def read(cls, item: dict[str, Any]) -> ClusterPolicy:
        """Return the policy of a ClusterPolicy object."""
        status = item.get("status") or {}
        trouble = _condition(status, "Error", "True")
        return cls(name=str(item["metadata"]["name"]), state=status.get("state") or None, trouble=trouble)

    @property
    def ready(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True)
class AppliedState(FactValue):
    """One part of a NicClusterPolicy. `ignore` means that it is not requested, which is no failure."""

    name: str
    state: str  # ready, notReady, ignore, error


@dataclass(frozen=True)
class NicClusterPolicy(FactValue):
    """The Network Operator's policy; it heeds only the one that is named nic-cluster-policy."""

    name: str
    state: str | None  # ready, notReady, ignore, error; None until the operator has reported one
    applied_states: tuple[AppliedState, ...]
    trouble: str | None  # what the operator complains about

    @classmethod
    def read(cls, item: dict[str, Any]) -> NicClusterPolicy:
        """Return the policy of a NicClusterPolicy object."""
        status = item.get("status") or {}
        applied = status.get("appliedStates") or []
        return cls(
            name=str(item["metadata"]["name"]),
            state=status.get("state") or None,
            applied_states=tuple(AppliedState(str(part["name"]), str(part["state"])) for part in applied),
            trouble=status.get("reason") or _condition(status, "Ready", "False"),
        )

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    @property
    def lagging(self) -> tuple[AppliedState, ...]:
        """The parts that are asked for and not ready."""
        return tuple(applied for applied in self.applied_states if applied.state not in UNHURT)

    also = ("lagging",)


def _condition(status: dict[str, Any], kind: str, value: str) -> str | None:
    for condition in status.get("conditions") or []:
        if (condition["type"], condition["status"]) == (kind, value):
            return ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
    return None


def read_events(items: Iterable[dict[str, Any]]) -> tuple[WarningEvent, ...]:
    """Given Event objects, return the warnings, oldest first."""
    return tuple(sorted(map(_event, items), key=lambda event: event.last_seen or ""))


def _event(item: dict[str, Any]) -> WarningEvent:
    about, series = item["involvedObject"], item.get("series") or {}
    last_seen = item.get("lastTimestamp") or series.get("lastObservedTime") or item.get("eventTime")
    return WarningEvent(
        about=f"{about['kind']}/{about['name']}",
        reason=str(item.get("reason") or ""),
        message=str(item.get("message") or ""),
        count=int(item.get("count") or series.get("count") or 1),
        last_seen=None if last_seen is None else str(last_seen),
    )


def read_pods(items: Iterable[dict[str, Any]]) -> tuple[OperatorPod, ...]:
    """Given Pod objects, return the pods by name."""
    return tuple(sorted(map(_pod, items), key=lambda pod: pod.name))


def _pod(item: dict[str, Any]) -> OperatorPod:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    containers = status.get("containerStatuses") or []
    init_containers = status.get("initContainerStatuses") or []
    return OperatorPod(
        name=str(metadata["name"]),
        component=_component(metadata),
        node=spec.get("nodeName") or None,
        phase=str(status.get("phase") or "Unknown"),
        status=_status(item),
        ready_containers=sum(bool(container["ready"]) for container in containers),
        total_containers=len(spec["containers"]),
        restarts=sum(int(container["restartCount"]) for container in [*init_containers, *containers]),
        waiting=tuple(_waiting(status)),
    )


def _component(metadata: dict[str, Any]) -> str:
    labels = metadata.get("labels") or {}
    named = next((str(labels[label]) for label in COMPONENT_LABELS if label in labels), None)
    if named is None:
        return next((str(owner["name"]) for owner in metadata.get("ownerReferences") or []), str(metadata["name"]))
    # node feature discovery's pods share one name and differ by role
    return f"{named}-{labels['role']}" if "role" in labels else named


def _status(item: dict[str, Any]) -> str:
    """The word that kubectl shows as STATUS (kubernetes pkg/printers/internalversion, printPod), rarities aside."""
    status = item.get("status") or {}
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    init = _init_status(item["spec"].get("initContainers") or [], status.get("initContainerStatuses") or [])
    if init and status.get("phase") != "Succeeded":
        return init
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        if reason := (state.get("waiting") or state.get("terminated") or {}).get("reason"):
            return str(reason)
    return str(status.get("reason") or status.get("phase") or "Unknown")


def _init_status(specs: list[dict[str, Any]], statuses: list[dict[str, Any]]) -> str | None:
    sidecars = {spec["name"] for spec in specs if spec.get("restartPolicy") == "Always"}
    for number, container in enumerate(statuses):
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated["exitCode"] == 0:
            continue
        if container["name"] in sidecars and container.get("started"):
            continue
        reason = (terminated or waiting).get("reason")
        return f"Init:{reason}" if reason and reason not in STARTING else f"Init:{number}/{len(specs)}"
    return None


def _waiting(status: dict[str, Any]) -> Iterator[str]:
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            yield _reason("scheduling", condition)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = container.get("state") or {}, container.get("lastState") or {}
        failed = [t for t in (state.get("terminated"), last.get("terminated")) if t and t["exitCode"] != 0]
        if waiting := state.get("waiting"):
            yield _reason(container["name"], waiting)
        if failed and not container["ready"]:
            yield _reason(container["name"], {"reason": f"exit status {failed[0]['exitCode']}", **failed[0]})


def _reason(what: str, state: dict[str, Any]) -> str:
    return ": ".join(str(word) for word in (what, state.get("reason"), state.get("message")) if word)


MOST_PODS = 3  # that are named; the others are counted
LONGEST = 200
IN_TURN = ("PodInitializing", "ContainerCreating")


@dataclass(frozen=True)
class Operator:
    """An operator. The names are NVIDIA's."""

    release: str  # of helm, and the chart's name too
    namespace: str
    kind: str  # of its policies
    policy: str  # name of the only policy that it reads
    resource: str  # that every node offers when the operator is ready
    groups: tuple[str, ...]  # API groups of the definitions in its chart


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
    """Return the reasons why an operator is not ready; none if it is.

    + amount: of its resource that every node must offer
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
    """Return the pods that are not healthy."""
    return [pod for pod in pods if not pod.healthy]


def why_waiting(pods: Iterable[OperatorPod]) -> list[str]:
    """Return why each waiting pod waits. Pods explain why an operator is not ready; they do not decide it."""
    waits = waiting(pods)
    said = [_why_not(pod) for pod in waits[:MOST_PODS]]
    return [*said, f"{len(waits) - MOST_PODS} more pods wait"] if len(waits) > MOST_PODS else said


def _why_not(pod: OperatorPod) -> str:
    where = f" on {pod.node}" if pod.node else ""
    # What waits only for another container of the pod explains nothing.
    causes = [why for why in pod.waiting if not why.endswith(IN_TURN)] or list(pod.waiting[:1])
    why = f" ({'; '.join(causes)[:LONGEST]})" if causes else ""
    return f"pod {pod.name}{where} is {pod.status}{why}"
