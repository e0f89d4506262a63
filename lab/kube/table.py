"""Answers for `kubectl get`: tables and bare metadata."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from gb10.lab.kube.objects import Obj, condition, dig, labels, name, seconds
from gb10.lab.kube.resources import Resource

ROLE_LABEL = "node-role.kubernetes.io/"


class Column(NamedTuple):
    title: str
    cell: Callable[[Obj], object]
    wide: bool = False


def _age(obj: Obj) -> str:
    return duration(time.time() - seconds(obj["metadata"]["creationTimestamp"]))


def duration(elapsed: float) -> str:
    """Format seconds as kubectl prints an age."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if elapsed >= 2 * size:
            return f"{int(elapsed // size)}{unit}"
    return f"{max(0, int(elapsed))}s"


def _node_status(node: Obj) -> str:
    ready = {"True": "Ready"}.get(condition(node, "Ready"), "NotReady")
    return ready + (",SchedulingDisabled" if node["spec"].get("unschedulable") else "")


def _roles(node: Obj) -> str:
    roles = sorted(key.removeprefix(ROLE_LABEL) for key in labels(node) if key.startswith(ROLE_LABEL))
    return ",".join(roles) or "<none>"


def _address(kind: str) -> Callable[[Obj], str]:
    def find(node: Obj) -> str:
        addresses = node.get("status", {}).get("addresses") or []
        return next((str(a["address"]) for a in addresses if a["type"] == kind), "<none>")

    return find


def _info(field: str) -> Callable[[Obj], object]:
    return lambda node: dig(node, ["status", "nodeInfo", field]) or "<unknown>"


def _status(field: str) -> Callable[[Obj], object]:
    return lambda obj: (obj.get("status") or {}).get(field, 0)


def _containers_ready(pod: Obj) -> str:
    statuses = pod["status"].get("containerStatuses") or []
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(pod['spec'].get('containers') or [])}"


def _replicas_ready(obj: Obj) -> str:
    return f"{_status('readyReplicas')(obj)}/{obj['spec'].get('replicas', 1)}"


_AGE = Column("Age", _age)
_COLUMNS = {
    "nodes": (
        Column("Status", _node_status),
        Column("Roles", _roles),
        _AGE,
        Column("Version", _info("kubeletVersion")),
        Column("Internal-IP", _address("InternalIP"), wide=True),
        Column("External-IP", _address("ExternalIP"), wide=True),
        Column("OS-Image", _info("osImage"), wide=True),
        Column("Kernel-Version", _info("kernelVersion"), wide=True),
        Column("Container-Runtime", _info("containerRuntimeVersion"), wide=True),
    ),
    "pods": (
        Column("Ready", _containers_ready),
        Column("Status", lambda pod: pod["status"].get("phase", "")),
        Column("Restarts", lambda _: "0"),
        _AGE,
        Column("IP", lambda pod: pod["status"].get("podIP", "<none>"), wide=True),
        Column("Node", lambda pod: pod["spec"].get("nodeName", "<none>"), wide=True),
    ),
    "deployments": (
        Column("Ready", _replicas_ready),
        Column("Up-to-date", _status("updatedReplicas")),
        Column("Available", _status("availableReplicas")),
        _AGE,
    ),
    "daemonsets": (
        Column("Desired", _status("desiredNumberScheduled")),
        Column("Current", _status("currentNumberScheduled")),
        Column("Ready", _status("numberReady")),
        Column("Up-to-date", _status("updatedNumberScheduled")),
        Column("Available", _status("numberAvailable")),
        _AGE,
    ),
    "namespaces": (Column("Status", lambda obj: obj["status"].get("phase", "")), _AGE),
}
_NAME = Column("Name", name)


def _metadata_only(obj: Obj) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def format_answer(resource: Resource, answer: Obj, accept: str) -> Obj:
    """Return an object or list in the form that the Accept header requests."""
    wanted = accept.partition(",")[0]
    if answer.get("kind") == "Status" or "as=" not in wanted:
        return answer
    items: list[Obj] = answer.get("items", [answer])
    if "as=PartialObjectMetadata" in wanted:
        partial = [_metadata_only(obj) for obj in items]
        if "items" not in answer:
            return partial[0]
        return {**_metadata_only(answer), "kind": "PartialObjectMetadataList", "items": partial}
    return _table(resource, answer["metadata"], items)


def _table(resource: Resource, metadata: Obj, items: list[Obj]) -> Obj:
    columns = (_NAME, *_COLUMNS.get(resource.plural, (_AGE,)))
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {field: metadata[field] for field in ("resourceVersion",) if field in metadata},
        "columnDefinitions": [
            {
                "name": column.title,
                "type": "string",
                "format": "name" if column is _NAME else "",
                "description": "",
                "priority": int(column.wide),
            }
            for column in columns
        ],
        "rows": [{"cells": [column.cell(obj) for column in columns], "object": _metadata_only(obj)} for obj in items],
    }
