"""Discovery: the API's groups, kinds and verbs, and stubs of the OpenAPI documents."""

from __future__ import annotations

from gb10.lab.kube.errors import no_such_resource
from gb10.lab.kube.objects import Obj
from gb10.lab.kube.resources import ALL_CATEGORY, VERBS, Resource

Groups = dict[str, dict[str, list[Resource]]]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
OPENAPI_V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# An empty swagger 2.0 document in protobuf, the only form that kubectl requests.
OPENAPI_V2 = b"\x0a\x032.0"

_SUBRESOURCE_KINDS = {"eviction": ("policy", "v1", "Eviction"), "scale": ("autoscaling", "v1", "Scale")}


def _groups(resources: list[Resource]) -> Groups:
    groups: Groups = {}
    for resource in resources:
        groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
    return groups


def _kind(resource: Resource, subresource: str = "") -> Obj:
    own = (resource.group, resource.version, resource.kind)
    return dict(zip(("group", "version", "kind"), _SUBRESOURCE_KINDS.get(subresource, own), strict=True))


def _subresource_verbs(subresource: str) -> list[str]:
    return ["create"] if subresource == "eviction" else ["get", "patch", "update"]


def aggregated(resources: list[Resource], root: str) -> Obj:
    """Return everything below /api or /apis in one answer."""
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [
                {"version": version, "freshness": "Current", "resources": [_aggregated_resource(r) for r in members]}
                for version, members in versions.items()
            ],
        }
        for group, versions in _groups(resources).items()
        if bool(group) == (root == "apis")
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(resource: Resource) -> Obj:
    return {
        "resource": resource.plural,
        "responseKind": _kind(resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": VERBS,
        "shortNames": list(resource.short_names),
        "categories": ["all"] if resource.plural in ALL_CATEGORY else [],
        "subresources": [
            {"subresource": s, "responseKind": _kind(resource, s), "verbs": _subresource_verbs(s)}
            for s in resource.subresources
        ],
    }


def legacy(resources: list[Resource], parts: list[str]) -> Obj:
    """Return the older, smaller answers: /api, /apis, /apis/GROUP, /api/v1, /apis/GROUP/VERSION.

    Raise ApiError 404 for others.
    """
    groups = _groups(resources)
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if parts == ["apis"]:
        named = [_group(name, versions) for name, versions in groups.items() if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
    if parts[0] == "apis" and len(parts) == 2 and parts[1] in groups:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], groups[parts[1]])}
    members = groups.get(parts[1] if len(parts) == 3 else "", {}).get(parts[-1])
    if not members:
        raise no_such_resource()
    listed = [entry for resource in members for entry in _legacy_entries(resource)]
    version = members[0].group_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


def _group(name: str, versions: dict[str, list[Resource]]) -> Obj:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _legacy_entries(resource: Resource) -> list[Obj]:
    own: Obj = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": VERBS,
        "shortNames": list(resource.short_names),
    }
    below: list[Obj] = [
        {
            "name": f"{resource.plural}/{subresource}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "verbs": _subresource_verbs(subresource),
            **_kind(resource, subresource),
        }
        for subresource in resource.subresources
    ]
    return [own, *below]


def openapi_v3(resources: list[Resource], parts: list[str], version: str) -> Obj:
    """Return what kubectl needs: the server validates fields and supports dryRun. Raise ApiError 404 if unknown."""
    prefixes = {("apis/" if r.group else "api/") + r.group_version: r.group_version for r in resources}
    if not parts:
        number = len(resources)
        return {"paths": {p: {"serverRelativeURL": f"/openapi/v3/{p}?hash={number}"} for p in prefixes}}
    prefix = "/".join(parts)
    if prefix not in prefixes:
        raise no_such_resource()
    members = [resource for resource in resources if resource.group_version == prefixes[prefix]]
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "components": {},
        "paths": {_openapi_path(prefix, resource): {"patch": _patch_operation(resource)} for resource in members},
    }


def _openapi_path(prefix: str, resource: Resource) -> str:
    within = "namespaces/{namespace}/" if resource.namespaced else ""
    return f"/{prefix}/{within}{resource.plural}/{{name}}"


def _patch_operation(resource: Resource) -> Obj:
    return {
        "x-kubernetes-group-version-kind": _kind(resource),
        "x-kubernetes-action": "patch",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ],
        "responses": {"200": {"description": "OK"}},
    }
