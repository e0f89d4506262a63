"""Checks and defaults that the API server applies before it stores an object."""

from __future__ import annotations

import base64
import copy
import re

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import Obj
from gb10.lab.kube.resources import Resource

# Top-level fields of kinds that have other fields than spec and status. Deeper fields are not checked.
_FIELDS = {
    "clusterrolebindings": {"subjects", "roleRef"},
    "clusterroles": {"rules", "aggregationRule"},
    "configmaps": {"data", "binaryData", "immutable"},
    "endpoints": {"subsets"},
    "mutatingwebhookconfigurations": {"webhooks"},
    "priorityclasses": {"value", "globalDefault", "description", "preemptionPolicy"},
    "rolebindings": {"subjects", "roleRef"},
    "roles": {"rules"},
    "runtimeclasses": {"handler", "overhead", "scheduling"},
    "secrets": {"data", "stringData", "type", "immutable"},
    "serviceaccounts": {"secrets", "imagePullSecrets", "automountServiceAccountToken"},
    "storageclasses": {
        "allowVolumeExpansion",
        "allowedTopologies",
        "mountOptions",
        "parameters",
        "provisioner",
        "reclaimPolicy",
        "volumeBindingMode",
    },
    "validatingwebhookconfigurations": {"webhooks"},
}
_DEFAULTS = {
    "pods": ("status", {"phase": "Pending"}),
    "namespaces": ("status", {"phase": "Active"}),
    "nodes": ("spec", {}),
}


def check_name(resource: Resource, name: str | None) -> None:
    """Raise ApiError 422 for an invalid name."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?", name or ""):
        raise _invalid(resource, name, "metadata.name", f"Invalid value: {name!r}")


def check_fields(resource: Resource, obj: Obj) -> None:
    """Raise ApiError 400 for an unknown top-level field, as strict field validation does."""
    if not resource.built_in or resource.plural == "events":
        return
    known = {"apiVersion", "kind", "metadata", "status"} | _FIELDS.get(resource.plural, {"spec"})
    for field in obj:
        if field not in known:
            message = (
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                f'strict decoding error: unknown field "{field}"'
            )
            raise ApiError(400, "BadRequest", message)


def check_immutable(resource: Resource, old: Obj, new: Obj) -> None:
    """Raise ApiError 422 for a change of an immutable field."""
    changed = None
    if resource.plural == "runtimeclasses" and old.get("handler") != new.get("handler"):
        changed = "handler"
    if resource.plural in ("secrets", "configmaps") and old.get("immutable") and old.get("data") != new.get("data"):
        changed = "data"
    if resource.plural in ("deployments", "daemonsets") and old["spec"].get("selector") != new["spec"].get("selector"):
        changed = "spec.selector"
    if changed:
        raise _invalid(resource, old["metadata"]["name"], changed, "field is immutable")


def _invalid(resource: Resource, name: str | None, field: str, why: str) -> ApiError:
    """Return the error that kubectl shows as: The KIND "NAME" is invalid: FIELD: WHY."""
    return ApiError(
        422,
        "Invalid",
        f'{resource.kind} "{name}" is invalid: {field}: {why}',
        name=name,
        group=resource.group,
        kind=resource.kind,
        causes=[{"reason": "FieldValueInvalid", "message": why, "field": field}],
    )


def set_defaults(resource: Resource, obj: Obj) -> None:
    """Set the defaults that clients rely on."""
    if resource.plural == "secrets":
        plain = obj.pop("stringData", None) or {}
        if plain:
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}
        obj.setdefault("type", "Opaque")
    if resource.built_in and resource.plural in _DEFAULTS:
        field, value = _DEFAULTS[resource.plural]
        obj.setdefault(field, copy.deepcopy(value))
    if resource.plural in ("deployments", "statefulsets"):
        obj["spec"].setdefault("replicas", 1)
    if resource.plural == "deployments":
        obj["spec"].setdefault("strategy", {"type": "RollingUpdate"})
    if resource.plural in ("daemonsets", "statefulsets"):
        obj["spec"].setdefault("updateStrategy", {"type": "RollingUpdate"})
    if resource.plural == "customresourcedefinitions":
        obj["status"] = _definition_status(obj)


def _definition_status(definition: Obj) -> Obj:
    return {
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": [v["name"] for v in definition["spec"]["versions"] if v.get("storage")],
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": kind,
                "lastTransitionTime": definition["metadata"]["creationTimestamp"],
            }
            for kind in ("NamesAccepted", "Established")
        ],
    }
