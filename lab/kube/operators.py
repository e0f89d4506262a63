"""Stand-ins for node feature discovery and NVIDIA's operators: their visible effects on a cluster.

Their operands are DaemonSets with the real names, whose pods do nothing. The nodes' labels, the policies' states and
the allocatable resources depend on the running pods and on the devices that the nodes' own tools report.

A test delays operands or lets them fail with the file of gb10.lab.kube.faults:

    {"operators": {"delay_seconds": 3,
                   "pods": {"nvidia-operator-validator": "Init:0/4", "gpu-operator-": "ImagePullBackOff"}}}

`pods` maps beginnings of names to a reason. Such pods wait with that reason as long as the fault stays.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial

from gb10.lab.kube.controllers import Controller, conditions
from gb10.lab.kube.devices import of_node
from gb10.lab.kube.faults import Faults
from gb10.lab.kube.objects import (
    Obj,
    annotations_of,
    dig,
    is_ready,
    labels,
    name,
    namespace,
    now,
    owner_uids,
    seconds,
    uid,
)
from gb10.lab.kube.resources import DAEMONSETS, NAMESPACES, NODES, PODS, Resource, built_in
from gb10.lab.kube.store import Store

POLL_SECONDS = 1.0
HOLD = "gb10.lab/hold"
HELD_HERE = "operators"

NFD = "feature.node.kubernetes.io"
GPU_LABEL, NIC_LABEL = f"{NFD}/pci-10de.present", f"{NFD}/pci-15b3.present"
GPU = "nvidia.com/gpu"
VALIDATIONS = ("driver-validation", "toolkit-validation", "cuda-validation", "plugin-validation")
# Operand -> key in the ClusterPolicy's spec that enables it, and label of the nodes on which it runs.
GPU_OPERANDS = {
    "gpu-feature-discovery": ("gfd", "gpu-feature-discovery"),
    "nvidia-dcgm-exporter": ("dcgmExporter", "dcgm-exporter"),
    "nvidia-device-plugin-daemonset": ("devicePlugin", "device-plugin"),
    "nvidia-operator-validator": ("validator", "operator-validator"),
    "nvidia-driver-daemonset": ("driver", "driver"),
    "nvidia-container-toolkit-daemonset": ("toolkit", "container-toolkit"),
}
PLUGIN, VALIDATOR = "nvidia-device-plugin-daemonset", "nvidia-operator-validator"
RDMA_OPERAND = "rdma-shared-dp-ds"
NIC_POLICY = "nic-cluster-policy"
# The parts of a NicClusterPolicy that the operator reports, besides the imitated one.
NIC_STATES = (
    "state-multus-cni",
    "state-container-networking-plugins",
    "state-ipoib-cni",
    "state-OFED",
    "state-SRIOV-device-plugin",
    "state-ib-kubernetes",
    "state-nv-ipam-cni",
    "state-nic-feature-discovery",
    "state-doca-telemetry-service",
    "state-nic-configuration-operator",
)
OPERATOR_LABELS = {"gpu": {"app": "gpu-operator"}, "network": {"app.kubernetes.io/name": "network-operator"}}

RUNTIMES = built_in("runtimeclasses")
CONFIGMAPS = built_in("configmaps")
EVENTS = built_in("events")


def controllers(faults: Faults) -> list[Controller]:
    """Return the controllers of all three, and the one that delays their pods."""
    return [feature_discovery, gpu_operator, network_operator, partial(hold, faults)]


def feature_discovery(store: Store) -> None:
    """Label nodes with their devices if a worker of node feature discovery runs on them."""
    workers = {"app.kubernetes.io/name": "node-feature-discovery", "role": "worker"}
    for node in _nodes_with(store, _pods(store, workers)):
        gpus, nics = of_node(node)
        _label(store, node, {GPU_LABEL: "true" if gpus else None, NIC_LABEL: "true" if nics else None})


def gpu_operator(store: Store) -> float | None:
    """Apply a ClusterPolicy: operands, the nodes' GPUs, and the policy's state."""
    resource = store.resources.get(("nvidia.com/v1", "clusterpolicies"))
    operators = _pods(store, OPERATOR_LABELS["gpu"])
    policies = store.all(resource) if resource else []
    if resource and policies and operators:
        _run_gpu_operator(store, resource, policies[0], str(namespace(operators[0])))
    replicas = _replicas(store, policies[0]) if policies else 0
    plugins = {str(pod["spec"]["nodeName"]) for pod in _of_operand(store, PLUGIN) if is_ready(pod)}
    for node in store.all(NODES):
        gpus = of_node(node)[0] if name(node) in plugins else 0
        _offer(store, node, {GPU: gpus * replicas})
    return POLL_SECONDS if policies else None


def _run_gpu_operator(store: Store, resource: Resource, policy: Obj, place: str) -> None:
    spec: Obj = policy.get("spec") or {}
    runtime = dig(spec, ("operator", "runtimeClass")) or "nvidia"
    if (None, runtime) not in store.table(RUNTIMES):
        _create_owned(store, RUNTIMES, None, policy, {"metadata": {"name": runtime}, "handler": runtime})
    wanted = {
        operand: label for operand, (key, label) in GPU_OPERANDS.items() if dig(spec, (key, "enabled")) is not False
    }
    with_gpu = [node for node in store.all(NODES) if labels(node).get(GPU_LABEL) == "true"]
    for node in with_gpu:
        deploys = {f"nvidia.com/gpu.deploy.{label}": "true" for label in wanted.values()}
        _label(store, node, {"nvidia.com/gpu.present": "true", **deploys})
    for operand in GPU_OPERANDS:
        label = wanted.get(operand)
        template = _gpu_operand(operand, label, runtime) if label else None
        _settle_daemonset(store, policy, place, operand, template)
    _validate(store, policy, place)
    waiting = [operand for operand in wanted if not _is_rolled_out(store, operand, place)]
    lagging = ", ".join(f"state-{operand}" for operand in waiting)
    if not with_gpu:
        # As with the real operator, a cluster without GPUs is ready.
        verdict = (True, "NoGPUNodes", "No GPU node found, watching for new nodes to join the cluster.")
    elif waiting:
        verdict = (False, "OperandNotReady", f"Some operands are not ready: {lagging}")
    else:
        verdict = (True, "Reconciled", "ClusterPolicy is ready as all resources have been successfully reconciled")
    status = {"namespace": place, "state": "ready" if verdict[0] else "notReady", "conditions": _ready(*verdict)}
    store.set_status(resource, policy, status)


def _ready(ready: bool, reason: str, message: str) -> list[Obj]:
    yes, no = conditions(("Ready", "True" if ready else "False"), ("Error", "False" if ready else "True"))
    return [
        {**yes, "reason": reason, "message": message if ready else ""},
        {**no, "reason": reason, "message": message},
    ]


def _gpu_operand(operand: str, label: str, runtime: str) -> Obj:
    containers = [{"name": operand.removesuffix("-daemonset"), "image": f"nvcr.io/nvidia/{operand}:lab"}]
    init = [{"name": validation, "image": "nvcr.io/nvidia/gpu-operator:lab"} for validation in VALIDATIONS]
    spec = {
        "nodeSelector": {f"nvidia.com/gpu.deploy.{label}": "true"},
        "runtimeClassName": runtime,
        "initContainers": init if operand == VALIDATOR else init[1:2],
        "containers": containers,
    }
    return {"metadata": {"labels": {"app": operand}}, "spec": spec}


def _validate(store: Store, policy: Obj, place: str) -> None:
    """Add the completed pod of the CUDA program that each running validator has run before."""
    done = {pod["spec"]["nodeName"] for pod in _all_pods(store, {"app": "nvidia-cuda-validator"})}
    for pod in _of_operand(store, VALIDATOR):
        node = pod["spec"]["nodeName"]
        if is_ready(pod) and node not in done:
            identity = {"name": f"nvidia-cuda-validator-{uid(pod)[:5]}", "labels": {"app": "nvidia-cuda-validator"}}
            spec = {"nodeName": node, "containers": [{"name": "nvidia-cuda-validator", "image": "lab"}]}
            ended = {"exitCode": 0, "reason": "Completed"}
            container = {"name": "nvidia-cuda-validator", "ready": False, "restartCount": 0}
            status = {"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ended}}]}
            _create_owned(store, PODS, place, policy, {"metadata": identity, "spec": spec, "status": status})


def _replicas(store: Store, policy: Obj) -> int:
    """Return the number of pods that may share a GPU, from the device plugin's ConfigMap (default: 1)."""
    config = dig(policy, ("spec", "devicePlugin", "config")) or {}
    for found in store.all(CONFIGMAPS):
        if name(found) == config.get("name"):
            text = str((found.get("data") or {}).get(config.get("default"), ""))
            shared = re.search(r"name: nvidia.com/gpu\s+replicas: (\d+)", text)
            return int(shared[1]) if shared else 1
    return 1


def network_operator(store: Store) -> float | None:
    """Apply the NicClusterPolicy: operand, the nodes' RDMA devices, and the policy's state."""
    resource = store.resources.get(("mellanox.com/v1alpha1", "nicclusterpolicies"))
    operators = _pods(store, OPERATOR_LABELS["network"])
    policies = store.all(resource) if resource else []
    for policy in policies:
        if resource and operators:
            _run_network_operator(store, resource, policy, str(namespace(operators[0])))
    configs = [config for policy in policies if name(policy) == NIC_POLICY for config in _rdma_configs(policy)]
    plugins = {str(pod["spec"]["nodeName"]) for pod in _of_operand(store, RDMA_OPERAND) if is_ready(pod)}
    for node in store.all(NODES):
        offers = {resource: 0 for resource in _offered(node) if resource.startswith("rdma/")}
        for config in configs if name(node) in plugins else ():
            fits = set(of_node(node)[1]).intersection(dig(config, ("selectors", "ifNames")) or [])
            offers[f"rdma/{config['resourceName']}"] = int(config["rdmaHcaMax"]) if fits else 0
        _offer(store, node, offers)
    return POLL_SECONDS if policies else None


def _run_network_operator(store: Store, resource: Resource, policy: Obj, place: str) -> None:
    if name(policy) != NIC_POLICY:
        store.set_status(resource, policy, {"state": "ignore", "reason": f"only {NIC_POLICY} is supported"})
        return
    wanted = "rdmaSharedDevicePlugin" in (policy.get("spec") or {})
    spec = {
        "nodeSelector": {NIC_LABEL: "true"},
        "hostNetwork": True,
        "containers": [{"name": "rdma-shared-dp", "image": "nvcr.io/nvidia/mellanox/k8s-rdma-shared-dev-plugin:lab"}],
    }
    template = {"metadata": {"labels": {"app": "rdma-shared-dp"}}, "spec": spec} if wanted else None
    _settle_daemonset(store, policy, place, RDMA_OPERAND, template)
    ready = not wanted or _is_rolled_out(store, RDMA_OPERAND, place)
    plugin = "ignore" if not wanted else "ready" if ready else "notReady"
    applied = [{"name": state, "state": "ignore"} for state in NIC_STATES]
    applied.append({"name": "state-RDMA-device-plugin", "state": plugin})
    store.set_status(resource, policy, {"state": "ready" if ready else "notReady", "appliedStates": applied})


def _rdma_configs(policy: Obj) -> list[Obj]:
    text = dig(policy, ("spec", "rdmaSharedDevicePlugin", "config"))
    try:
        found: list[Obj] = json.loads(text or "{}").get("configList") or []
    except ValueError:
        return []
    return found


def hold(faults: Faults, store: Store) -> float | None:
    """Hold pods back because of a test, a delay or the container runtime. Release all others."""
    wanted = faults.operators()
    delay = float(wanted.get("delay_seconds", 0))
    places = {str(namespace(pod)) for pods in OPERATOR_LABELS.values() for pod in _all_pods(store, pods)}
    for pod in store.all(PODS):
        if namespace(pod) in places and dig(pod, ("status", "phase")) != "Succeeded":
            young = time.time() < seconds(pod["metadata"]["creationTimestamp"]) + delay
            why = next((why for start, why in (wanted.get("pods") or {}).items() if name(pod).startswith(start)), None)
            why = why or _refused_by_runtime(store, pod) or ("ContainerCreating" if young else None)
            _hold_back(store, pod, why)
    return POLL_SECONDS if places else None


def _refused_by_runtime(store: Store, pod: Obj) -> str | None:
    """Return the waiting reason if the runtime refuses a pod, or None.

    K3s' cri-dockerd supports only the runtime handler "docker" (core/sandbox_run.go).
    """
    runtime = store.table(RUNTIMES).get((None, pod["spec"].get("runtimeClassName", "")))
    node = store.table(NODES).get((None, pod["spec"].get("nodeName", "")))
    engine = str(dig(node or {}, ("status", "nodeInfo", "containerRuntimeVersion")))
    if not runtime or not engine.startswith("docker:") or runtime.get("handler") == "docker":
        return None
    _warn(store, pod, "FailedCreatePodSandBox", f'RuntimeHandler "{runtime["handler"]}" not supported')
    return "ContainerCreating"


def _hold_back(store: Store, pod: Obj, why: str | None) -> None:
    held = annotations_of(pod).get(HOLD) == HELD_HERE
    if not why and not held:
        return
    others = {key: value for key, value in annotations_of(pod).items() if key != HOLD}
    wanted = {**others, HOLD: HELD_HERE} if why else others
    if wanted != annotations_of(pod):
        pod = store.update(PODS, pod, {**pod, "metadata": {**pod["metadata"], "annotations": wanted}})
    store.set_status(PODS, pod, _waiting_status(pod, why) if why else {"phase": "Pending"})
    if why and why.endswith(("BackOff", "Error")):
        _warn(store, pod, "Failed", f"Error: {why}")


def _waiting_status(pod: Obj, why: str) -> Obj:
    containers = [container["name"] for container in pod["spec"].get("containers") or []]
    init = [container["name"] for container in pod["spec"].get("initContainers") or []]
    reason = "PodInitializing" if why.startswith("Init:") else why
    status = {"phase": "Pending", "conditions": conditions(("PodScheduled", "True"), ("Ready", "False"))}
    status["containerStatuses"] = [_waiting(container, reason) for container in containers]
    if why.startswith("Init:"):
        status["initContainerStatuses"] = [_waiting(container, "PodInitializing") for container in init]
    return status


def _waiting(container: str, reason: str) -> Obj:
    return {"name": container, "ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}}


def _warn(store: Store, pod: Obj, reason: str, message: str) -> None:
    """Create an event of type Warning, once for each pod and reason."""
    place, event = namespace(pod), f"{name(pod)}.{reason.lower()}"
    if (place, event) in store.table(EVENTS):
        return
    about = {"kind": "Pod", "namespace": place, "name": name(pod), "uid": uid(pod)}
    body = {
        "metadata": {"name": event},
        "involvedObject": about,
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now(),
        "lastTimestamp": now(),
    }
    store.create(EVENTS, place, body)


def _all_pods(store: Store, wanted: dict[str, str]) -> list[Obj]:
    return [pod for pod in store.all(PODS) if wanted.items() <= labels(pod).items()]


def _pods(store: Store, wanted: dict[str, str]) -> list[Obj]:
    """Return the ready pods with these labels."""
    return [pod for pod in _all_pods(store, wanted) if is_ready(pod)]


def _of_operand(store: Store, operand: str) -> Iterator[Obj]:
    owners = {uid(daemonset) for daemonset in store.all(DAEMONSETS) if name(daemonset) == operand}
    return (pod for pod in store.all(PODS) if owners & owner_uids(pod))


def _nodes_with(store: Store, pods: Iterable[Obj]) -> list[Obj]:
    places = {pod["spec"].get("nodeName") for pod in pods}
    return [node for node in store.all(NODES) if name(node) in places]


def _label(store: Store, node: Obj, wanted: dict[str, str | None]) -> None:
    merged = {key: value for key, value in {**labels(node), **wanted}.items() if value is not None}
    if merged != labels(node):
        store.update(NODES, node, {**node, "metadata": {**node["metadata"], "labels": merged}})


def _offered(node: Obj) -> dict[str, str]:
    found: dict[str, str] = dig(node, ("status", "allocatable")) or {}
    return found


def _offer(store: Store, node: Obj, resources: dict[str, int]) -> None:
    """Set a node's extended resources. As with a kubelet, a resource whose plugin is gone stays with 0."""
    changed = {key: str(count) for key, count in resources.items() if count or key in _offered(node)}
    if changed.items() <= _offered(node).items():
        return
    status = node["status"]
    sizes = {kind: {**(status.get(kind) or {}), **changed} for kind in ("allocatable", "capacity")}
    store.set_status(NODES, node, {**status, **sizes})


def _is_rolled_out(store: Store, operand: str, place: str) -> bool:
    daemonset = store.table(DAEMONSETS).get((place, operand)) or {}
    wanted: int = dig(daemonset, ("status", "desiredNumberScheduled")) or 0
    ready: int = dig(daemonset, ("status", "numberReady")) or 0
    return 0 < wanted == ready


def _settle_daemonset(store: Store, owner: Obj, place: str, operand: str, template: Obj | None) -> None:
    """Create or update a DaemonSet, or delete it if there is no template."""
    found = store.table(DAEMONSETS).get((place, operand))
    if template is None:
        if found:
            store.delete(DAEMONSETS, found)
    elif found is None:
        selector = {"matchLabels": template["metadata"]["labels"]}
        body = {"metadata": {"name": operand, "labels": template["metadata"]["labels"]}}
        _create_owned(store, DAEMONSETS, place, owner, {**body, "spec": {"selector": selector, "template": template}})
    elif found["spec"]["template"] != template:
        store.update(DAEMONSETS, found, {**found, "spec": {**found["spec"], "template": template}})


def _create_owned(store: Store, resource: Resource, place: str | None, owner: Obj, child: Obj) -> None:
    """Create an object that belongs to a policy, unless its namespace is gone."""
    if place is not None and (None, place) not in store.table(NAMESPACES):
        return
    reference = {key: owner[key] for key in ("apiVersion", "kind")} | {"name": name(owner), "uid": uid(owner)}
    fresh: Obj = json.loads(json.dumps(child))
    fresh["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    store.create(resource, place, fresh)
