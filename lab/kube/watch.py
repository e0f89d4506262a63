"""Watches: the stream of changes after a list, as kubectl and helm read it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import Obj
from gb10.lab.kube.store import Event, Store
from gb10.lab.kube.verbs import Request

LONGEST = 1800.0
INITIAL_END = "k8s.io/initial-events-end"


def watch(store: Store, request: Request) -> Iterator[Obj | None]:
    """Yield watch events until the request's timeout, and None each second without events.

    With `sendInitialEvents` the existing objects come first, followed by a bookmark, as WatchList requires.
    """
    end = time.monotonic() + min(float(request.query.get("timeoutSeconds") or LONGEST), LONGEST)
    since, initial = _start(store, request)
    for obj in initial:
        yield _event("ADDED", request, obj)
    if request.query.get("sendInitialEvents") == "true":
        meta = {"resourceVersion": str(since), "annotations": {INITIAL_END: "true"}}
        yield _event("BOOKMARK", request, {"kind": request.resource.kind, "metadata": meta})
    while time.monotonic() < end:
        with store.cond:
            if store.revision == since:
                store.cond.wait(1)
            try:
                events = store.events_after(since)
            except ApiError as error:
                yield {"type": "ERROR", "object": error.body}
                return
        if not events:
            yield None
        for event in events:
            since = event.revision
            kind = _event_kind(request, event)
            if kind:
                yield _event(kind, request, event.obj)


def _start(store: Store, request: Request) -> tuple[int, list[Obj]]:
    wanted = request.query.get("resourceVersion") or "0"
    if wanted != "0" and request.query.get("sendInitialEvents") != "true":
        return int(wanted), []
    with store.cond:
        return store.revision, [obj for obj in store.all(request.resource) if request.selects(obj)]


def _event(kind: str, request: Request, obj: Obj) -> Obj:
    return {"type": kind, "object": {**obj, "apiVersion": request.resource.group_version}}


def _event_kind(request: Request, event: Event) -> str | None:
    """Return the kind of change for this watcher. An object that no longer matches the selector counts as deleted."""
    if event.table != request.resource.table_key:
        return None
    before = event.old is not None and request.selects(event.old)
    after = event.kind != "DELETED" and request.selects(event.obj)
    if before and after:
        return "MODIFIED"
    if after:
        return "ADDED"
    return "DELETED" if before else None
