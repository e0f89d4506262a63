"""The API's verbs: perform one request on a resource."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from gb10.lab.kube import admission
from gb10.lab.kube.apply import Manager, track_apply
from gb10.lab.kube.errors import ApiError, no_such_resource
from gb10.lab.kube.merge import json_patch, merge_patch, strategic_merge
from gb10.lab.kube.objects import Obj, is_ready, labels, name, namespace, uid
from gb10.lab.kube.resources import BUDGETS, PODS, Resource
from gb10.lab.kube.selection import from_match_labels, match_fields, match_labels
from gb10.lab.kube.store import Store

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

Answer = tuple[Any, int]


@dataclass(frozen=True)
class Request:
    """A parsed request on a resource."""

    method: str
    resource: Resource
    namespace: str | None
    name: str | None
    subresource: str
    query: dict[str, str]
    content_type: str
    agent: str
    body: Any = field(default_factory=dict)

    @property
    def dry(self) -> bool:
        # A JSON patch is a list. A delete has its options in the body.
        options = self.body if isinstance(self.body, dict) else {}
        return self.query.get("dryRun") == "All" or "All" in (options.get("dryRun") or [])

    @property
    def manager(self) -> str:
        return self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"

    def selects(self, obj: Obj) -> bool:
        """Return True if this request's list or watch contains the object."""
        return (
            (not self.namespace or namespace(obj) == self.namespace)
            and (not self.name or name(obj) == self.name)
            and match_labels(self.query.get("labelSelector"), labels(obj))
            and match_fields(self.query.get("fieldSelector"), obj)
        )


def perform(store: Store, request: Request) -> Answer:
    """Perform a request and return the answer and its HTTP status. Raise ApiError if it fails."""
    if request.query.get("fieldValidation") == "Strict" and request.content_type != JSON_PATCH:
        admission.check_fields(request.resource, request.body)
    if request.method == "PATCH" and request.content_type == APPLY:
        return _apply(store, request)
    return _on_object(store, request) if request.name else _on_collection(store, request)


def _on_object(store: Store, request: Request) -> Answer:
    old = store.get(request.resource, request.namespace, str(request.name))
    if request.subresource == "eviction":
        return _evict(store, request, old)
    if request.subresource == "scale":
        return _scale(store, request, old)
    if request.method == "GET":
        return (b"" if request.subresource == "log" else _versioned(request, old)), 200
    if request.method == "DELETE":
        return _delete(store, request, old)
    return _change(store, request, old), 200


def _versioned(request: Request, obj: Obj) -> Obj:
    return {**obj, "apiVersion": request.resource.group_version}


def _selected(store: Store, request: Request) -> list[Obj]:
    in_order = sorted(store.table(request.resource).items(), key=lambda item: (item[0][0] or "", item[0][1]))
    return [obj for _, obj in in_order if request.selects(obj)]


def _on_collection(store: Store, request: Request) -> Answer:
    resource = request.resource
    if request.method == "POST":
        return store.create(resource, request.namespace, request.body, request.manager, request.dry), 201
    if request.method not in ("GET", "DELETE"):
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    items = [_versioned(request, obj) for obj in _selected(store, request)]
    if request.method == "DELETE" and not request.dry:
        for obj in items:
            store.delete(resource, obj)
    meta = {"resourceVersion": str(store.revision)}
    listing = {"apiVersion": resource.group_version, "kind": f"{resource.kind}List", "metadata": meta, "items": items}
    return listing, 200


def _apply(store: Store, request: Request) -> Answer:
    """Perform a server-side apply: merge, then update the owners of fields."""
    resource, body = request.resource, copy.deepcopy(request.body)
    body.get("metadata", {}).pop("creationTimestamp", None)
    old = store.table(resource).get((request.namespace, str(request.name)))
    base = old or {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "metadata": {"name": request.name},
    }
    merge = strategic_merge if resource.built_in else merge_patch
    new = merge(copy.deepcopy(base), body)
    manager = Manager(request.manager, "Apply", request.subresource)
    forced = request.query.get("force") == "true"
    new = track_apply(old, new, body, manager, resource.built_in, forced)
    if old is None:
        return store.create(resource, request.namespace, new, request.manager, request.dry, applied=True), 201
    changed = store.update(resource, old, new, request.subresource, request.manager, request.dry, applied=True)
    return changed, 200


def _change(store: Store, request: Request, old: Obj) -> Obj:
    resource = request.resource
    if request.method == "PUT":
        new = request.body
    elif request.content_type == JSON_PATCH:
        new = json_patch(copy.deepcopy(old), request.body)
    elif request.content_type == STRATEGIC and not resource.built_in:
        accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {accepted}",
        )
    else:
        new = (strategic_merge if request.content_type == STRATEGIC else merge_patch)(old, request.body)
    return store.update(resource, old, new, request.subresource, request.manager, request.dry)


def _scale(store: Store, request: Request, old: Obj) -> Answer:
    if request.method != "GET":
        current = {"spec": {"replicas": old["spec"].get("replicas", 1)}}
        wanted = merge_patch(current, request.body)["spec"]["replicas"]
        new = strategic_merge(old, {"spec": {"replicas": wanted}})
        old = store.update(request.resource, old, new, "", request.manager, request.dry)
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {field: value for field, value in old["metadata"].items() if field != "managedFields"},
        "spec": {"replicas": old["spec"].get("replicas", 1)},
        "status": {"replicas": old.get("status", {}).get("replicas", 0)},
    }, 200


def _delete(store: Store, request: Request, old: Obj) -> Answer:
    wanted = (request.body.get("preconditions") or {}).get("uid")
    if wanted and wanted != uid(old):
        message = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid(old)}"
        raise ApiError(409, "Conflict", message)
    if not request.dry:
        policy = request.body.get("propagationPolicy") or request.query.get("propagationPolicy") or "Background"
        store.delete(request.resource, old, policy)
    details = {"name": name(old), "group": request.resource.group, "kind": request.resource.plural, "uid": uid(old)}
    return _success(200, details=details), 200


def _success(code: int, **more: Any) -> Obj:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code, **more}


def _evict(store: Store, request: Request, pod: Obj) -> Answer:
    """Delete a pod unless a disruption budget forbids it (429, after which drain retries)."""
    if request.method != "POST" or request.resource != PODS:
        raise no_such_resource()
    for budget in store.all(BUDGETS):
        _check_budget(store, budget, pod)
    if not request.dry:
        store.delete(PODS, pod)
    return _success(201), 201


def _check_budget(store: Store, budget: Obj, pod: Obj) -> None:
    spec = budget["spec"]
    selector = from_match_labels(spec.get("selector"))
    covered = [
        other
        for other in store.all(PODS)
        if namespace(other) == namespace(budget) and match_labels(selector, labels(other))
    ]
    healthy = sum(map(is_ready, covered))
    if "minAvailable" in spec:
        needed = _portion(spec["minAvailable"], len(covered))
    else:
        needed = len(covered) - _portion(spec.get("maxUnavailable", 0), len(covered))
    if uid(pod) in map(uid, covered) and healthy - 1 < needed:
        detail = f"The disruption budget {name(budget)} needs {needed} healthy pods and has {healthy} currently"
        raise ApiError(
            429,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
            causes=[{"reason": "DisruptionBudget", "message": detail}],
        )


def _portion(value: int | str, total: int) -> int:
    """Convert a number or a percentage to a number of pods, rounded up."""
    return -(-int(value[:-1]) * total // 100) if isinstance(value, str) else value
