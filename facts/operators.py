"""NVIDIA's operators, as the API server on a head node tells it.

An operator is ready when its policy's state says so and every node shows the allocatable resource (`ClusterNodes`),
not when some pod runs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.k3s import KUBECTL
from gb10.facts.reading.sections import Section, read_sections, sections, understood
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
    node: str | None  # None while it is not scheduled
    phase: str
    status: str  # one word, as kubectl shows it: Running, Completed, Init:0/4, ImagePullBackOff
    ready_containers: int
    total_containers: int
    restarts: int  # init containers included
    waiting: tuple[str, ...]  # why it does not run: "container: reason: message"

    @property
    def healthy(self) -> bool:
        """Whether it does its work or has done it: a Completed validator is a success."""
        running = self.phase == "Running" and self.ready_containers == self.total_containers
        return self.phase == "Succeeded" or (running and self.status == "Running")

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "healthy": self.healthy}


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
        return tuple(sorted((_pod(item) for item in _items(section)), key=lambda pod: pod.name))


class GpuOperatorPods(OperatorPods):
    """Pods of the GPU Operator; None where no API server answers on this host."""

    def command(self, namespace: str = GPU_NAMESPACE) -> StringCommand:
        return super().command(namespace)


class NetworkOperatorPods(OperatorPods):
    """Pods of the Network Operator; None where no API server answers on this host."""

    def command(self, namespace: str = NETWORK_NAMESPACE) -> StringCommand:
        return super().command(namespace)


@dataclass(frozen=True)
class WarningEvent(FactValue):
    """An event of type Warning."""

    about: str  # "Pod/nvidia-operator-validator-th4w7"
    reason: str
    message: str
    count: int
    last_seen: str | None  # RFC 3339


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
        return tuple(sorted((_event(item) for item in _items(section)), key=lambda event: event.last_seen or ""))


@dataclass(frozen=True)
class ClusterPolicy(FactValue):
    """The GPU Operator's policy. `state` is None until the operator has reported one."""

    name: str
    state: str | None  # ready, notReady, ignored
    trouble: str | None  # what the operator complains about

    @property
    def ready(self) -> bool:
        return self.state == "ready"


class ClusterPolicyState(FactBase[tuple[ClusterPolicy, ...] | None]):
    """Policies of the GPU Operator, none where it is not installed; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return _policies("clusterpolicies.nvidia.com")

    @understood
    def process(self, output: list[str]) -> tuple[ClusterPolicy, ...] | None:
        items = _policy_items(output)
        return None if items is None else tuple(_cluster_policy(item) for item in items)


@dataclass(frozen=True)
class AppliedState(FactValue):
    """One part of a NicClusterPolicy. `ignore` means that nobody asked for it, which is no failure."""

    name: str
    state: str  # ready, notReady, ignore, error


@dataclass(frozen=True)
class NicClusterPolicy(FactValue):
    """The Network Operator's policy; it heeds only the one that is named nic-cluster-policy."""

    name: str
    state: str | None  # ready, notReady, ignore, error; None until the operator has reported one
    applied_states: tuple[AppliedState, ...]
    trouble: str | None  # what the operator complains about

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    @property
    def lagging(self) -> tuple[AppliedState, ...]:
        """The parts that are asked for and not ready."""
        return tuple(applied for applied in self.applied_states if applied.state not in UNHURT)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "lagging": [applied.to_json() for applied in self.lagging]}


class NicClusterPolicyState(FactBase[tuple[NicClusterPolicy, ...] | None]):
    """Policies of the Network Operator, none where it is not installed; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return _policies("nicclusterpolicies.mellanox.com")

    @understood
    def process(self, output: list[str]) -> tuple[NicClusterPolicy, ...] | None:
        items = _policy_items(output)
        return None if items is None else tuple(_nic_cluster_policy(item) for item in items)


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
    return None if found["policies"].status != 0 else _items(found["policies"])


def _items(section: Section) -> list[dict[str, Any]]:
    items = json.loads(section.text)["items"]
    if not isinstance(items, list):
        raise ValueError("the list has no items")
    return items


def _cluster_policy(item: dict[str, Any]) -> ClusterPolicy:
    status = item.get("status") or {}
    trouble = _condition(status, "Error", "True")
    return ClusterPolicy(name=str(item["metadata"]["name"]), state=status.get("state") or None, trouble=trouble)


def _nic_cluster_policy(item: dict[str, Any]) -> NicClusterPolicy:
    status = item.get("status") or {}
    applied = status.get("appliedStates") or []
    return NicClusterPolicy(
        name=str(item["metadata"]["name"]),
        state=status.get("state") or None,
        applied_states=tuple(AppliedState(str(part["name"]), str(part["state"])) for part in applied),
        trouble=status.get("reason") or _condition(status, "Ready", "False"),
    )


def _condition(status: dict[str, Any], kind: str, value: str) -> str | None:
    for condition in status.get("conditions") or []:
        if (condition["type"], condition["status"]) == (kind, value):
            return ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
    return None


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
