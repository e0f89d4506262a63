"""Nodes of a Kubernetes cluster, and the releases of helm in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from gb10.facts.reading.values import FactValue, Section

ROLE_LABEL = "node-role.kubernetes.io/"
THOUSANDS = "kMGTPE"  # suffixes of a quantity, each for three zeros more


@dataclass(frozen=True)
class ClusterNode(FactValue):
    """A Node object. `ready` is its Ready condition, which is no text to search: NotReady contains Ready."""

    name: str
    ready: bool
    cordoned: bool
    version: str  # as its kubelet reports it
    addresses: dict[str, list[str]]  # type -> addresses
    runtime: str  # "docker://26.1.5"
    allocatable: dict[str, str]  # quantities, as Kubernetes writes them
    labels: dict[str, str] = field(default_factory=dict)
    reason: str | None = None  # why it is not ready

    also = ("roles", "internal_ip")

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(sorted(label.removeprefix(ROLE_LABEL) for label in self.labels if label.startswith(ROLE_LABEL)))

    @property
    def internal_ip(self) -> str | None:
        return next(iter(self.addresses.get("InternalIP", [])), None)

    def offers(self, resource: str) -> int:
        """Return the allocatable amount of an extended resource: a whole number, but 1000 is written as 1k."""
        amount = self.allocatable.get(resource, "0")
        zeros: int = 1000 ** (THOUSANDS.find(amount[-1]) + 1)
        return int(amount.rstrip(THOUSANDS)) * zeros


def read_items(section: Section) -> list[dict[str, Any]] | None:
    """Return the objects of a list that kubectl printed, or None if no API server answered."""
    if section.status != 0:
        return None
    items = json.loads(section.text)["items"]
    if not isinstance(items, list):
        raise ValueError("the list has no items")
    return items


def read_nodes(items: Iterable[dict[str, Any]]) -> tuple[ClusterNode, ...]:
    """Given Node objects, return the nodes by name."""
    return tuple(sorted(map(_node, items), key=lambda node: node.name))


def _node(item: dict[str, Any]) -> ClusterNode:
    metadata, status = item["metadata"], item.get("status", {})
    ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {"status": "Unknown"})
    addresses: dict[str, list[str]] = {}
    for address in status.get("addresses", []):
        addresses.setdefault(address["type"], []).append(address["address"])
    return ClusterNode(
        name=metadata["name"],
        ready=ready["status"] == "True",
        cordoned=bool(item.get("spec", {}).get("unschedulable")),
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        addresses=addresses,
        runtime=status.get("nodeInfo", {}).get("containerRuntimeVersion", ""),
        allocatable=status.get("allocatable", {}),
        labels=metadata.get("labels", {}),
        reason=None if ready["status"] == "True" else ready.get("message") or ready.get("reason") or ready["status"],
    )


@dataclass(frozen=True)
class HelmRevision(FactValue):
    """A revision of a release."""

    name: str
    namespace: str
    revision: int
    status: str  # deployed, failed, pending-install, pending-upgrade, pending-rollback, uninstalling, uninstalled
    chart: str  # name of the chart, which need not be the release's
    chart_version: str
    app_version: str | None
    # as the user gave them, without the chart's defaults; empty for a chart whose values were not asked for
    values: dict[str, Any] = field(default_factory=dict)
    description: str = ""  # why it failed, in helm's words
    deployed_at: str = ""

    @property
    def deployed(self) -> bool:
        """True if it is a success."""
        return self.status == "deployed"

    @property
    def pending(self) -> bool:
        """True if helm works on it, or was killed meanwhile: then helm refuses every further upgrade."""
        return self.status.startswith("pending-")


@dataclass(frozen=True)
class HelmRelease(HelmRevision):
    """A release, by its newest revision."""

    deployed_revision: int | None = None  # the newest that was a success; None when there never was one


def read_releases(rows: Iterable[dict[str, Any]]) -> tuple[HelmRelease, ...]:
    """Given all revisions as programs/helm_storage.py reads them, return the newest one of each release."""
    revisions = sorted(map(_revision, rows), key=attrgetter("namespace", "name", "revision"))
    return tuple(_newest(list(group)) for _, group in groupby(revisions, key=attrgetter("namespace", "name")))


def _revision(row: dict[str, Any]) -> HelmRevision:
    info, chart, values = row["info"], row["chart"], row["config"] or {}
    if not isinstance(values, dict):
        raise ValueError(f"values of {row['name']} are no mapping")
    return HelmRevision(
        name=str(row["name"]),
        namespace=str(row["namespace"]),
        revision=int(row["version"]),
        status=str(info["status"]),
        chart=str(chart["name"]),
        chart_version=str(chart["version"]),
        app_version=None if chart["appVersion"] is None else str(chart["appVersion"]),
        values=values,
        description=str(info["description"] or ""),
        deployed_at=str(info["last_deployed"] or ""),
    )


def _newest(revisions: list[HelmRevision]) -> HelmRelease:
    deployed = [revision.revision for revision in revisions if revision.deployed]
    return HelmRelease(**vars(revisions[-1]), deployed_revision=max(deployed, default=None))
