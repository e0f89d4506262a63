"""Node objects of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.values import FactValue

ROLE_LABEL = "node-role.kubernetes.io/"
THOUSANDS = "kMGTPE"  # suffixes of a quantity, each for three zeros more


@dataclass(frozen=True)
class ClusterNode(FactValue):
    """A Node object. `ready` is its Ready condition, which is no text to search: NotReady contains Ready."""

    name: str
    ready: bool
    cordoned: bool
    roles: tuple[str, ...]
    version: str  # as its kubelet reports it
    internal_ip: str | None
    addresses: dict[str, list[str]]  # type -> addresses
    runtime: str  # "docker://26.1.5"
    allocatable: dict[str, str]  # quantities, as Kubernetes writes them
    labels: dict[str, str] = field(default_factory=dict)
    reason: str | None = None  # why it is not ready

    def offers(self, resource: str) -> int:
        """Return the allocatable amount of an extended resource: a whole number, but 1000 is written as 1k."""
        amount = self.allocatable.get(resource, "0")
        zeros: int = 1000 ** (THOUSANDS.find(amount[-1]) + 1)
        return int(amount.rstrip(THOUSANDS)) * zeros


def read_nodes(items: Iterable[dict[str, Any]]) -> tuple[ClusterNode, ...]:
    """Given Node objects, return the nodes by name."""
    return tuple(sorted(map(_node, items), key=lambda node: node.name))


def _node(item: dict[str, Any]) -> ClusterNode:
    metadata, status = item["metadata"], item.get("status", {})
    labels = metadata.get("labels", {})
    ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {"status": "Unknown"})
    addresses: dict[str, list[str]] = {}
    for address in status.get("addresses", []):
        addresses.setdefault(address["type"], []).append(address["address"])
    return ClusterNode(
        name=metadata["name"],
        ready=ready["status"] == "True",
        cordoned=bool(item.get("spec", {}).get("unschedulable")),
        roles=tuple(sorted(label.removeprefix(ROLE_LABEL) for label in labels if label.startswith(ROLE_LABEL))),
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        internal_ip=next(iter(addresses.get("InternalIP", [])), None),
        addresses=addresses,
        runtime=status.get("nodeInfo", {}).get("containerRuntimeVersion", ""),
        allocatable=status.get("allocatable", {}),
        labels=labels,
        reason=None if ready["status"] == "True" else ready.get("message") or ready.get("reason") or ready["status"],
    )
