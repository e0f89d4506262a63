"""Kubernetes objects as plain JSON values, and functions to read them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

Obj = dict[str, Any]


def now() -> str:
    """Return the time in Kubernetes' format, in whole seconds."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """Return the time in the format of leases, in microseconds."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Convert an object's timestamp to seconds since the epoch."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def dig(value: Any, path: Sequence[str]) -> Any:
    """Return the value at a path in nested dicts, or None if a step is missing."""
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def namespace(obj: Obj) -> str | None:
    found: str | None = obj["metadata"].get("namespace")
    return found


def uid(obj: Obj) -> str:
    return str(obj["metadata"]["uid"])


def labels(obj: Obj) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("labels") or {}
    return found


def annotations_of(obj: Obj) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("annotations") or {}
    return found


def condition(obj: Obj, kind: str) -> str:
    """Return the status of one condition, or "Unknown" if there is none."""
    conditions = obj.get("status", {}).get("conditions") or []
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "Unknown")


def is_ready(obj: Obj) -> bool:
    return condition(obj, "Ready") == "True"


def owner_uids(obj: Obj) -> set[str]:
    return {str(owner["uid"]) for owner in obj["metadata"].get("ownerReferences") or []}
