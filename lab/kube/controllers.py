"""Small controllers, just enough for `kubectl wait`, `kubectl rollout` and `helm --wait`.

Each controller is a function of the store. It reads all objects, corrects them, and returns the seconds until it must
run again even without changes, or None. `CONTROLLERS` are the built-in ones; operators.py adds more.

Tests control them by annotations: `gb10.lab/hold` on a pod template keeps its pods from becoming Ready, `gb10.lab/fail`
on a Job makes it fail.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable

from gb10.lab.kube.objects import (
    Obj,
    annotations_of,
    condition,
    is_ready,
    labels,
    name,
    namespace,
    now,
    owner_uids,
    seconds,
    uid,
)
from gb10.lab.kube.resources import (
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    Resource,
)
from gb10.lab.kube.store import Store

Controller = Callable[[Store], float | None]

HASH_LABEL = "pod-template-hash"
LEASE_NAMESPACE = "kube-node-lease"
JOB_SECONDS = 0.2


def conditions(*pairs: tuple[str, str]) -> list[Obj]:
    """Return status conditions for pairs of type and status."""
    return [
        {
            "type": kind,
            "status": status,
            "reason": kind,
            "message": "",
            "lastTransitionTime": now(),
            "lastUpdateTime": now(),
        }
        for kind, status in pairs
    ]


def _children(store: Store, resource: Resource, owner: Obj) -> list[Obj]:
    return [obj for obj in store.all(resource) if uid(owner) in owner_uids(obj)]


def _create_owned(store: Store, resource: Resource, owner: Obj, child: Obj) -> None:
    """Create an object that belongs to its owner."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    # A deep copy, so that the child shares nothing with its owner's template.
    fresh: Obj = json.loads(json.dumps(child))
    fresh["metadata"]["ownerReferences"] = [reference]
    store.create(resource, namespace(owner), fresh)


def _template(owner: Obj, **more_labels: str) -> tuple[Obj, Obj]:
    """Return the metadata and the spec of an owner's pods."""
    template = owner["spec"]["template"]
    meta = template.get("metadata") or {}
    return {**meta, "labels": {**(meta.get("labels") or {}), **more_labels}}, template.get("spec") or {}


def _template_hash(owner: Obj) -> str:
    return hashlib.sha256(json.dumps(owner["spec"]["template"], sort_keys=True).encode()).hexdigest()[:10]


def _suffixed(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:5]}"


def deployments(store: Store) -> None:
    """Keep one ReplicaSet for each pod template. The old ones shrink once the newest is ready."""
    for deployment in store.all(DEPLOYMENTS):
        sets = _children(store, REPLICASETS, deployment)
        digest = _template_hash(deployment)
        newest = next((s for s in sets if labels(s).get(HASH_LABEL) == digest), None)
        if newest is None:
            _new_replicaset(store, deployment, digest, len(sets) + 1)
            continue
        wanted = deployment["spec"]["replicas"]
        ready = sum(map(is_ready, _children(store, PODS, newest)))
        for replicaset in sets:
            old_size = 0 if ready >= wanted else replicaset["spec"]["replicas"]
            _resize(store, replicaset, wanted if replicaset is newest else old_size)
        total = sum(len(_children(store, PODS, replicaset)) for replicaset in sets)
        store.set_status(DEPLOYMENTS, deployment, _deployment_status(store, deployment, newest, total, ready))


def _new_replicaset(store: Store, deployment: Obj, digest: str, revision: int) -> None:
    meta, spec = _template(deployment, **{HASH_LABEL: digest})
    replicaset = {
        "metadata": {
            "name": f"{name(deployment)}-{digest}",
            "labels": meta["labels"],
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
        },
        "spec": {
            "replicas": deployment["spec"]["replicas"],
            "selector": {"matchLabels": meta["labels"]},
            "template": {"metadata": meta, "spec": spec},
        },
    }
    _create_owned(store, REPLICASETS, deployment, replicaset)


def _resize(store: Store, replicaset: Obj, size: int) -> None:
    if replicaset["spec"]["replicas"] != size:
        store.update(REPLICASETS, replicaset, {**replicaset, "spec": {**replicaset["spec"], "replicas": size}})


def _deployment_status(store: Store, deployment: Obj, newest: Obj, total: int, ready: int) -> Obj:
    wanted = deployment["spec"]["replicas"]
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": total,
        "updatedReplicas": len(_children(store, PODS, newest)),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
        "conditions": conditions(("Available", "True" if ready >= wanted else "False"), ("Progressing", "True")),
    }


def replicasets(store: Store) -> None:
    """Keep the number of pods of replica sets and stateful sets (without stable storage or order)."""
    for resource in (REPLICASETS, STATEFULSETS):
        for owner in store.all(resource):
            _pods_of_set(store, resource, owner)


def _pods_of_set(store: Store, resource: Resource, owner: Obj) -> None:
    wanted = owner["spec"].get("replicas", 1)
    pods = _children(store, PODS, owner)
    for pod in pods[wanted:]:
        store.remove(PODS, pod)
    meta, spec = _template(owner)
    taken = set(map(name, pods))
    for _ in range(wanted - len(pods)):
        if resource == STATEFULSETS:
            pod_name = next(f"{name(owner)}-{i}" for i in range(wanted) if f"{name(owner)}-{i}" not in taken)
            taken.add(pod_name)
        else:
            pod_name = _suffixed(name(owner))
        _create_owned(store, PODS, owner, {"metadata": {**meta, "name": pod_name}, "spec": spec})
    ready = sum(map(is_ready, pods))
    status = {
        "observedGeneration": owner["metadata"]["generation"],
        "replicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "updatedReplicas" if resource == STATEFULSETS else "fullyLabeledReplicas": len(pods),
    }
    store.set_status(resource, owner, status)


def daemonsets(store: Store) -> None:
    """Keep one pod on each node that matches the template's nodeSelector."""
    for daemonset in store.all(DAEMONSETS):
        digest = _template_hash(daemonset)
        meta, spec = _template(daemonset, **{HASH_LABEL: digest})
        fitting = {name(node) for node in store.all(NODES) if _selected(spec, node)}
        pods = _children(store, PODS, daemonset)
        current = [p for p in pods if p["spec"]["nodeName"] in fitting and labels(p).get(HASH_LABEL) == digest]
        for pod in pods:
            if pod not in current:
                store.remove(PODS, pod)
        for node in sorted(fitting - {pod["spec"]["nodeName"] for pod in current}):
            pod = {"metadata": {**meta, "name": _suffixed(name(daemonset))}, "spec": {**spec, "nodeName": node}}
            _create_owned(store, PODS, daemonset, pod)
        store.set_status(DAEMONSETS, daemonset, _daemonset_status(daemonset, len(fitting), current))


def _daemonset_status(daemonset: Obj, wanted: int, pods: list[Obj]) -> Obj:
    ready = sum(map(is_ready, pods))
    return {
        "observedGeneration": daemonset["metadata"]["generation"],
        "currentNumberScheduled": len(pods),
        "desiredNumberScheduled": wanted,
        "numberMisscheduled": 0,
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": wanted - ready,
        "updatedNumberScheduled": len(pods),
    }


def jobs(store: Store) -> float | None:
    """Complete each Job shortly after its creation, without a pod."""
    next_look = None
    for job in store.all(JOBS):
        if (job.get("status") or {}).get("conditions"):
            continue
        created = job["metadata"]["creationTimestamp"]
        left = seconds(created) + JOB_SECONDS - time.time()
        if left > 0:
            next_look = min(left, next_look or left)
        elif "gb10.lab/fail" in annotations_of(job):
            store.set_status(
                JOBS, job, {"startTime": created, "failed": 1, "conditions": conditions(("Failed", "True"))}
            )
        else:
            done = conditions(("Complete", "True"))
            status = {"startTime": created, "completionTime": now(), "succeeded": 1, "conditions": done}
            store.set_status(JOBS, job, status)
    return next_look


def _selected(pod_spec: Obj, node: Obj) -> bool:
    wanted: dict[str, str] = pod_spec.get("nodeSelector") or {}
    return all(labels(node).get(key) == value for key, value in wanted.items())


def _tolerates(pod_spec: Obj, taint: Obj) -> bool:
    if taint.get("effect") == "PreferNoSchedule":
        return True
    return any(
        toleration.get("key") in (None, "", taint["key"])
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in pod_spec.get("tolerations") or []
    )


def _accepts(node: Obj, pod_spec: Obj) -> bool:
    return (
        is_ready(node)
        and not node["spec"].get("unschedulable")
        and _selected(pod_spec, node)
        and all(_tolerates(pod_spec, taint) for taint in node["spec"].get("taints") or [])
    )


def scheduler(store: Store) -> None:
    """Bind each pod to the matching node with the fewest pods. Remove pods of deleted nodes."""
    nodes = {name(node): node for node in store.all(NODES)}
    load = dict.fromkeys(sorted(nodes), 0)
    waiting = []
    for pod in store.all(PODS):
        node = pod["spec"].get("nodeName")
        if not node:
            waiting.append(pod)
        elif node in nodes:
            load[node] += 1
        else:
            store.remove(PODS, pod)
    for pod in waiting:
        fitting = [node for node in load if _accepts(nodes[node], pod["spec"])]
        if fitting:
            chosen = min(fitting, key=load.__getitem__)
            load[chosen] += 1
            store.commit(PODS, "MODIFIED", {**pod, "spec": {**pod["spec"], "nodeName": chosen}}, pod)


class NodeLifecycle:
    """Marks a node Unknown after a grace period without heartbeat, and its pods not ready."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        # While the server was down it received no heartbeats, so every node gets a full grace period.
        self._started = time.time()

    def __call__(self, store: Store) -> float | None:
        next_look = None
        for node in store.all(NODES):
            if condition(node, "Ready") == "Unknown":
                continue
            lease = store.table(LEASES).get((LEASE_NAMESPACE, name(node)))
            # A node without a lease has just registered.
            renewed = seconds(lease["spec"]["renewTime"]) if lease else time.time()
            left = max(renewed, self._started) + self.grace - time.time()
            if left <= 0:
                self._mark_lost(store, node)
            else:
                next_look = min(left, next_look or left)
        return next_look

    @staticmethod
    def _mark_lost(store: Store, node: Obj) -> None:
        unknown = [
            {
                **entry,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": now(),
            }
            for entry in node["status"].get("conditions") or []
        ]
        store.set_status(NODES, node, {**node["status"], "conditions": unknown})
        for pod in store.all(PODS):
            if pod["spec"].get("nodeName") == name(node) and is_ready(pod):
                store.set_status(PODS, pod, {**pod["status"], "conditions": conditions(("Ready", "False"))})


CONTROLLERS: list[Controller] = [jobs, scheduler, daemonsets, deployments, replicasets]


class ControlLoop:
    """Runs the controllers after each change, until nothing changes."""

    # Changes come in bursts (dozens for one helm release), so one run at the end of a burst is enough.
    DEBOUNCE = 0.03

    def __init__(self, store: Store, controllers: list[Controller]) -> None:
        self._store = store
        self._controllers = controllers

    def start(self) -> None:
        threading.Thread(target=self._run, name="controllers", daemon=True).start()

    def _run(self) -> None:
        store = self._store
        while True:
            with store.cond:
                seen = store.changes
                next_look = self._run_controllers()
                if store.changes == seen:
                    store.cond.wait_for(lambda seen=seen: store.changes != seen, next_look)  # type: ignore[misc]
            time.sleep(self.DEBOUNCE)

    def _run_controllers(self) -> float | None:
        """Run all controllers. Return the seconds until the next run, or None."""
        pauses = []
        for controller in self._controllers:
            try:
                pauses.append(controller(self._store))
            except Exception:  # an odd object must not stop the cluster
                traceback.print_exc(file=sys.stderr)
                pauses.append(5.0)
        wanted = [pause for pause in pauses if pause is not None]
        return max(0.01, min(wanted)) if wanted else None
