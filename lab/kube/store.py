"""The objects of a cluster, their revisions, and the events of changes.

Stored objects are never changed in place, so a reader may keep them. Hold `cond` to read and then write. It is notified
at every change.
"""

from __future__ import annotations

import bisect
import copy
import threading
import uuid
from typing import NamedTuple

from gb10.lab.kube import admission
from gb10.lab.kube.apply import Manager, track_update
from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import Obj, now, owner_uids, uid
from gb10.lab.kube.persistence import Database
from gb10.lab.kube.resources import BUILT_IN, DEFINITIONS, LEASES, NAMESPACES, Resource, from_definition

# The number of events to keep. A watcher that needs older ones must list again.
EVENTS_KEPT = 4000
# Metadata that only the server sets.
_SERVER_META = (
    "uid",
    "name",
    "namespace",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "resourceVersion",
)
ITSELF = "k3s"

Place = tuple[str | None, str]


class Event(NamedTuple):
    """A change: ADDED, MODIFIED or DELETED, with the object after and before it."""

    revision: int
    kind: str
    table: tuple[str, str]
    obj: Obj
    old: Obj | None


class Store:
    """All objects, in memory and in the database if there is one."""

    def __init__(self, database: Database | None = None) -> None:
        self.cond = threading.Condition(threading.RLock())
        self.revision = 1
        # The number of changes that matter to controllers: all except heartbeats.
        self.changes = 0
        self.resources = {(r.group_version, r.plural): r for r in BUILT_IN}
        self._tables: dict[tuple[str, str], dict[Place, Obj]] = {}
        self._events: list[Event] = []
        self._database = database
        if database:
            self._load(database)
        with self.cond:
            for namespace in ("default", "kube-system", "kube-public", "kube-node-lease"):
                if (None, namespace) not in self.table(NAMESPACES):
                    self.create(NAMESPACES, None, {"metadata": {"name": namespace}})

    def _load(self, database: Database) -> None:
        self.revision = max(1, database.revision())
        for key, obj in database.objects():
            group, plural, namespace, name = key.split("/")
            self._tables.setdefault((group, plural), {})[namespace or None, name] = obj
        for definition in self.table(DEFINITIONS).values():
            self._serve(definition)

    def close(self) -> None:
        """Close the database, so that its file can be copied."""
        with self.cond:
            if self._database:
                self._database.close()

    def table(self, resource: Resource) -> dict[Place, Obj]:
        return self._tables.setdefault(resource.table_key, {})

    def all(self, resource: Resource) -> list[Obj]:
        return list(self.table(resource).values())

    def get(self, resource: Resource, namespace: str | None, name: str) -> Obj:
        """Return the stored object. Raise ApiError 404 if there is none."""
        found = self.table(resource).get((namespace, name))
        if found is None:
            message = f'{resource.qualified} "{name}" not found'
            raise ApiError(404, "NotFound", message, name=name, group=resource.group, kind=resource.plural)
        return found

    def events_after(self, revision: int) -> list[Event]:
        """Return the events newer than the revision. Raise ApiError 410 if some are no longer kept."""
        if self._events and revision < self._events[0].revision - 1 and len(self._events) >= EVENTS_KEPT // 2:
            raise ApiError(410, "Expired", f"too old resource version: {revision}")
        return self._events[bisect.bisect_right(self._events, revision, key=lambda event: event.revision) :]

    def commit(self, resource: Resource, kind: str, obj: Obj, old: Obj | None) -> Obj:
        """Store one change with the next revision and wake all waiting threads. Return the stored object."""
        with self.cond:
            self.revision += 1
            meta = obj["metadata"] = {**obj["metadata"], "resourceVersion": str(self.revision)}
            place = (meta.get("namespace"), meta["name"])
            if kind == "DELETED":
                self.table(resource).pop(place, None)
            else:
                self.table(resource)[place] = obj
            if self._database:
                key = "/".join((*resource.table_key, place[0] or "", place[1]))
                self._database.write(self.revision, key, None if kind == "DELETED" else obj)
            self._events.append(Event(self.revision, kind, resource.table_key, obj, old))
            if len(self._events) > EVENTS_KEPT:
                del self._events[: EVENTS_KEPT // 2]
            if resource == DEFINITIONS:
                self._withdraw(obj) if kind == "DELETED" else self._serve(obj)
            self.changes += resource != LEASES
            self.cond.notify_all()
            return obj

    def create(
        self,
        resource: Resource,
        namespace: str | None,
        obj: Obj,
        manager: str = ITSELF,
        dry: bool = False,
        applied: bool = False,
    ) -> Obj:
        """Store a new object. Raise ApiError for an invalid or existing name or an unknown namespace."""
        meta = obj.setdefault("metadata", {})
        meta.pop("namespace", None)
        if resource.namespaced:
            meta["namespace"] = namespace
            self.get(NAMESPACES, None, str(namespace))
        if meta.get("generateName") and not meta.get("name"):
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
        admission.check_name(resource, meta.get("name"))
        if (meta.get("namespace"), meta["name"]) in self.table(resource):
            message = f'{resource.qualified} "{meta["name"]}" already exists'
            raise ApiError(409, "AlreadyExists", message, name=meta["name"], group=resource.group, kind=resource.plural)
        obj.update(apiVersion=resource.group_version, kind=resource.kind)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        admission.set_defaults(resource, obj)
        if not applied:
            track_update(None, obj, Manager(manager, "Update"), resource.built_in)
        return obj if dry else self.commit(resource, "ADDED", obj, None)

    def update(
        self,
        resource: Resource,
        old: Obj,
        new: Obj,
        subresource: str = "",
        manager: str = ITSELF,
        dry: bool = False,
        applied: bool = False,
    ) -> Obj:
        """Store a new state of an object. An unchanged object gets no new revision.

        `new` must not change parts that it shares with `old`. Raise ApiError 409 if it was made from another revision
        than `old`.
        """
        old_meta, new_meta = old["metadata"], new["metadata"]
        if new_meta.get("resourceVersion") not in (None, "", old_meta["resourceVersion"]):
            message = (
                f'Operation cannot be fulfilled on {resource.qualified} "{old_meta["name"]}": the object has been '
                "modified; please apply your changes to the latest version and try again"
            )
            raise ApiError(409, "Conflict", message, name=old_meta["name"], kind=resource.plural)
        new = self._settle(resource, old, new, subresource)
        if not applied:
            track_update(old, new, Manager(manager, "Update", subresource), resource.built_in)
        if new == old or dry:
            return new
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            self.remove(resource, new)
            return new
        return self.commit(resource, "MODIFIED", new, old)

    def _settle(self, resource: Resource, old: Obj, new: Obj, subresource: str) -> Obj:
        """Reduce `new` to the changes that a write to the object or its subresource may make. Count the generation."""
        old_meta, new_meta = old["metadata"], new["metadata"]
        if subresource == "status":
            meta = {**old_meta, "managedFields": new_meta.get("managedFields") or []}
            new = {**old, "metadata": meta, **({"status": new["status"]} if "status" in new else {})}
        elif "status" in resource.subresources and "status" in old:
            new["status"] = old["status"]
        new.update(apiVersion=resource.group_version, kind=resource.kind)
        meta = {field: value for field, value in new["metadata"].items() if field not in _SERVER_META}
        new["metadata"] = meta | {field: old_meta[field] for field in _SERVER_META if field in old_meta}
        admission.check_immutable(resource, old, new)
        admission.set_defaults(resource, new)
        if _desired(new) != _desired(old):
            new["metadata"]["generation"] = old_meta.get("generation", 1) + 1
        return new

    def delete(self, resource: Resource, obj: Obj, policy: str = "Background") -> Obj:
        """Delete an object, or mark it for deletion while it has finalizers."""
        meta = obj["metadata"]
        if not meta.get("finalizers"):
            return self.remove(resource, obj, policy)
        if meta.get("deletionTimestamp"):
            return obj
        marked = {**obj, "metadata": {**meta, "deletionTimestamp": now(), "deletionGracePeriodSeconds": 0}}
        return self.commit(resource, "MODIFIED", marked, obj)

    def remove(self, resource: Resource, obj: Obj, policy: str = "Background") -> Obj:
        """Remove an object at once, with a namespace's contents, and with owned objects unless the policy is Orphan."""
        removed = self.commit(resource, "DELETED", dict(obj), obj)
        inside = obj["metadata"]["name"] if resource == NAMESPACES else None
        for other in list(self.resources.values()):
            for child in self.all(other):
                owned = policy != "Orphan" and uid(obj) in owner_uids(child)
                if owned or (inside and child["metadata"].get("namespace") == inside):
                    self.delete(other, child)
        return removed

    def set_status(self, resource: Resource, obj: Obj, status: Obj) -> None:
        """Store a status from a controller, unless only its times differ."""
        if _timeless(obj.get("status") or {}) != _timeless(status):
            self.commit(resource, "MODIFIED", {**obj, "status": status}, obj)

    def _serve(self, definition: Obj) -> None:
        for resource in from_definition(definition):
            self.resources[resource.group_version, resource.plural] = resource

    def _withdraw(self, definition: Obj) -> None:
        for resource in from_definition(definition):
            self.resources.pop((resource.group_version, resource.plural), None)
            for obj in self.all(resource):
                self.remove(resource, obj)


def _desired(obj: Obj) -> Obj:
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def _timeless(status: Obj) -> Obj:
    times = {"lastTransitionTime", "lastUpdateTime", "lastHeartbeatTime"}
    conditions = [{k: v for k, v in c.items() if k not in times} for c in status.get("conditions") or []]
    return {**copy.copy(status), "conditions": conditions}
