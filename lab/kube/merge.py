"""The three kinds of patch: JSON merge patch, strategic merge patch and JSON patch."""

from __future__ import annotations

from typing import Any

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import Obj

# Lists whose items are merged by a key: the `patchMergeKey` of Kubernetes' Go types.
LIST_KEYS = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
PRIMITIVE_DELETE = "$deleteFromPrimitiveList/"


def list_key(field: str, items: list[Any]) -> str | None:
    """Return the key by which a list's items are merged, or None."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    key = LIST_KEYS.get(field)
    if field == "ports":
        key = "containerPort" if "containerPort" in items[0] else "port"
    return key if key and all(key in item for item in items) else None


def merge_patch(current: Any, patch: Any) -> Any:
    """Return the value with a JSON merge patch (RFC 7386) applied. The input is not changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, dict) else {}
    for field, value in patch.items():
        if value is None:
            result.pop(field, None)
        else:
            result[field] = merge_patch(result.get(field), value)
    return result


def strategic_merge(current: Any, patch: Any) -> Any:
    """Return the value with a strategic merge patch applied. The input is not changed."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {field: value for field, value in patch.items() if field != "$patch"}
    result = dict(current) if isinstance(current, dict) else {}
    if "$retainKeys" in patch:
        result = {field: value for field, value in result.items() if field in patch["$retainKeys"]}
    for field, value in patch.items():
        if field.startswith(PRIMITIVE_DELETE):
            target = field.removeprefix(PRIMITIVE_DELETE)
            result[target] = [item for item in result.get(target) or [] if item not in value]
        elif field.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(field, None)
        else:
            result[field] = _strategic_value(field, result.get(field), value)
    return result


def _strategic_value(field: str, current: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return strategic_merge(current, value)
    if isinstance(value, list) and (key := list_key(field, value)):
        return _merge_items(list(current or []), value, key)
    if field == "finalizers":
        return list(dict.fromkeys((current or []) + value))
    return value


def _merge_items(items: list[Obj], patches: list[Obj], key: str) -> list[Obj]:
    for patch in patches:
        at = next((index for index, item in enumerate(items) if item.get(key) == patch[key]), None)
        if patch.get("$patch") == "delete":
            items = [item for item in items if item.get(key) != patch[key]]
        elif at is None:
            items.append(strategic_merge({}, patch))
        else:
            items[at] = strategic_merge(items[at], patch)
    return items


def json_patch(document: Obj, operations: list[Obj]) -> Obj:
    """Apply a JSON patch (RFC 6902) to the document in place and return it. `move` and `copy` are not supported.

    Raise ApiError 422 for a failed test or a missing path.
    """
    for operation in operations:
        *parents, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        try:
            target: Any = document
            for step in parents:
                target = _step(target, step, operation["op"])
            _apply_operation(target, last, operation)
        except (KeyError, IndexError) as error:
            raise _refused(f"{operation['op']} operation does not apply: doc is missing path") from error
    return document


def _refused(why: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def _step(target: Any, step: str, kind: str) -> Any:
    if isinstance(target, list):
        return target[int(step)]
    return target.setdefault(step, {}) if kind == "add" else target[step]


def _apply_operation(target: Any, last: str, operation: Obj) -> None:
    kind = operation["op"]
    index: Any = last
    if isinstance(target, list):
        index = len(target) if last == "-" else int(last)
    if kind == "test":
        if target[index] != operation["value"]:
            raise _refused("testing value failed")
    elif kind == "remove":
        del target[index]
    elif kind == "add" and isinstance(target, list):
        target.insert(index, operation["value"])
    elif kind in ("add", "replace"):
        target[index] = operation["value"]
    else:
        raise _refused(f"operation {kind} is not supported")
