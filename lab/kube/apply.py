"""Owners of fields: `metadata.managedFields` and the conflicts of server-side apply."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.merge import list_key
from gb10.lab.kube.objects import Obj, now

# The path of a leaf field in fieldsV1: ("f:spec", "f:containers", 'k:{"name":"c"}', "f:image").
Path = tuple[str, ...]

IDENTITY = {
    "apiVersion",
    "creationTimestamp",
    "generation",
    "kind",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
}


class Manager(NamedTuple):
    """One owner of fields: its name, `Apply` or `Update`, and the subresource if any."""

    name: str
    operation: str
    subresource: str = ""


def leaves(value: Any, keyed: bool, path: Path = ()) -> dict[Path, Any]:
    """Return the leaf fields of a value by path. With `keyed`, items of keyed lists are separate fields."""
    if isinstance(value, dict) and value:
        return {p: v for field in value for p, v in leaves(value[field], keyed, (*path, f"f:{field}")).items()}
    if keyed and isinstance(value, list) and path and (key := list_key(path[-1][2:], value)):
        found: dict[Path, Any] = {}
        for item in value:
            step = "k:" + json.dumps({key: item[key]}, separators=(",", ":"))
            found.update(leaves(item, keyed, (*path, step)))
        return found
    return {path: value}


def owned_fields(obj: Obj, keyed: bool) -> dict[Path, Any]:
    """Return the leaf fields that can have an owner: all except those that identify the object."""
    kept = {field: value for field, value in obj.items() if field not in IDENTITY}
    kept["metadata"] = {field: value for field, value in obj.get("metadata", {}).items() if field not in IDENTITY}
    return {path: value for path, value in leaves(kept, keyed).items() if value is not None and path != ("f:metadata",)}


def decode_fields(fields: Obj, path: Path = ()) -> set[Path]:
    """Return the paths of the leaves of a fieldsV1 tree."""
    found: set[Path] = set()
    for step, below in fields.items():
        if step != ".":
            found |= decode_fields(below, (*path, step)) or {(*path, step)}
    return found


def encode_fields(paths: set[Path]) -> Obj:
    """Return the fieldsV1 tree with these leaves."""
    tree: Obj = {}
    for path in sorted(paths):
        at = tree
        for step in path:
            at = at.setdefault(step, {})
    return tree


def remove_field(node: Any, path: Path) -> None:
    """Remove a leaf from an object, and parents that become empty."""
    if isinstance(node, list):
        wanted = json.loads(path[0][2:])
        for item in [item for item in node if all(item.get(k) == v for k, v in wanted.items())]:
            if len(path) > 1:
                remove_field(item, path[1:])
            if len(path) == 1 or not item:
                node.remove(item)
        return
    field = path[0][2:]
    if field in node:
        if len(path) > 1:
            remove_field(node[field], path[1:])
        if len(path) == 1 or not node[field]:
            del node[field]


class Ownership:
    """The owners of an object's fields, read from and written to its managedFields."""

    def __init__(self, managed: list[Obj]) -> None:
        self.fields: dict[Manager, set[Path]] = {}
        self.times: dict[Manager, str | None] = {}
        for entry in managed:
            manager = Manager(entry["manager"], entry["operation"], entry.get("subresource", ""))
            self.fields[manager] = decode_fields(entry.get("fieldsV1", {}))
            self.times[manager] = entry.get("time")

    def claim(self, manager: Manager, paths: set[Path]) -> None:
        self.fields[manager] = paths
        self.times[manager] = now()

    def entries(self, api_version: str) -> list[Obj]:
        return [
            {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": api_version,
                "time": self.times.get(manager) or now(),
                "fieldsType": "FieldsV1",
                "fieldsV1": encode_fields(paths),
                **({"subresource": manager.subresource} if manager.subresource else {}),
            }
            for manager, paths in sorted(self.fields.items())
            if paths
        ]


def _ownership(old: Obj | None, new: Obj) -> Ownership:
    managed = new["metadata"].get("managedFields") or (old or {}).get("metadata", {}).get("managedFields")
    return Ownership(managed or [])


def track_update(old: Obj | None, new: Obj, manager: Manager, keyed: bool) -> Obj:
    """Make the manager the owner of the fields that a create, update or patch has changed."""
    owners = _ownership(old, new)
    before, after = owned_fields(old or {}, keyed), owned_fields(new, keyed)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = set(before) - set(after)
    for other, paths in owners.fields.items():
        paths.difference_update(gone if other == manager else gone | changed)
    if changed:
        owners.claim(manager, owners.fields.get(manager, set()) | changed)
    new["metadata"]["managedFields"] = owners.entries(new["apiVersion"])
    return new


def track_apply(old: Obj | None, new: Obj, applied: Obj, manager: Manager, keyed: bool, force: bool) -> Obj:
    """Update the owners of an object's fields after an apply.

    Remove fields that the manager no longer applies, unless another manager owns them too. Raise ApiError 409 if the
    apply changes another manager's field without force.
    """
    owners = _ownership(old, new)
    before, mine = owned_fields(old or {}, keyed), owned_fields(applied, keyed)
    others = {other: paths for other, paths in owners.fields.items() if other != manager}
    clashes = {
        path: other
        for other, paths in others.items()
        for path in paths
        if path in mine and path in before and before[path] != mine[path]
    }
    if clashes and not force:
        raise _conflict(clashes)
    for path, other in clashes.items():
        owners.fields[other].discard(path)
    kept_by_others: set[Path] = set().union(*others.values())
    for path in owners.fields.get(manager, set()) - set(mine) - kept_by_others:
        remove_field(new, path)
    owners.claim(manager, set(mine))
    new["metadata"]["managedFields"] = owners.entries(new["apiVersion"])
    return new


def _conflict(clashes: dict[Path, Manager]) -> ApiError:
    def dotted(path: Path) -> str:
        return "".join(f"[{step[2:]}]" if step.startswith("k") else f".{step[2:]}" for step in path)

    each = ", ".join(f'conflict with "{manager.name}": {dotted(path)}' for path, manager in clashes.items())
    plural = "s" if len(clashes) > 1 else ""
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager.name}"', "field": dotted(path)}
        for path, manager in clashes.items()
    ]
    message = f"Apply failed with {len(clashes)} conflict{plural}: {each}"
    return ApiError(409, "Conflict", message, causes=causes)
