"""The Kubernetes cluster, as the API server on a head node tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.k3s import KUBECTL
from gb10.facts.reading.sections import read_sections, sections, understood
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
        """How much of an extended resource pods may have: always a whole number, but 1000 is written as 1k."""
        amount = self.allocatable.get(resource, "0")
        zeros: int = 1000 ** (THOUSANDS.find(amount[-1]) + 1)
        return int(amount.rstrip(THOUSANDS)) * zeros


class ClusterNodes(FactBase[tuple[ClusterNode, ...] | None]):
    """The nodes of the cluster by name; None where no API server answers on this host.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        # By its path: kubectl need not ask first which kinds there are.
        return sections({"nodes": f"{KUBECTL} get --raw /api/v1/nodes"})

    @understood
    def process(self, output: list[str]) -> tuple[ClusterNode, ...] | None:
        section = read_sections(output)["nodes"]
        if section.status != 0:
            return None
        nodes = (_node(item) for item in json.loads(section.text)["items"])
        return tuple(sorted(nodes, key=lambda node: node.name))


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


class NodePasswords(FactBase[tuple[str, ...] | None]):
    """Names of the nodes whose node-password Secret the cluster keeps; None where no API server answers on this host.

    K3s keeps `<node>.node-password.k3s` in kube-system and refuses a node of that name with another password
    (k3s-io/k3s pkg/nodepassword).
    """

    def command(self) -> StringCommand:
        return sections({"secrets": f"{KUBECTL} -n kube-system get secrets -o name"})

    @understood
    def process(self, output: list[str]) -> tuple[str, ...] | None:
        section = read_sections(output)["secrets"]
        if section.status != 0:
            return None
        names = (line.removeprefix("secret/") for line in section.lines)
        suffix = ".node-password.k3s"
        return tuple(sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix)))


class ManifestDrift(FactBase[bool | None]):
    """Whether objects differ from a manifest; None where nobody can tell: no API server, or an unknown kind."""

    def command(self, manifest: str) -> StringCommand:
        return sections({"diff": f"{KUBECTL} diff -f - <<'MANIFEST'\n{manifest.rstrip()}\nMANIFEST\n"})

    @understood
    def process(self, output: list[str]) -> bool | None:
        status = read_sections(output)["diff"].status
        return {0: False, 1: True}.get(status)
