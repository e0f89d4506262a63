"""The Kubernetes cluster, as the API server on a head node describes it."""

from __future__ import annotations

from typing import Any, ClassVar

from gb10.facts.reading.cluster import ClusterNode, read_items, read_nodes
from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.values import Sections


class ClusterNodes(SectionsFact[tuple[ClusterNode, ...] | None]):
    """The nodes of the cluster by name; None if no API server answers on this host."""

    # By its path: kubectl need not ask first which kinds there are.
    commands: ClassVar = {"nodes": f"{KUBECTL} get --raw /api/v1/nodes"}

    def read_sections(self, found: Sections) -> tuple[ClusterNode, ...] | None:
        items = read_items(found["nodes"])
        return None if items is None else read_nodes(items)


class NodePasswords(SectionsFact[tuple[str, ...] | None]):
    """Names of the nodes whose node-password Secret the cluster keeps; None where no API server answers on this host.

    K3s keeps `<node>.node-password.k3s` in kube-system and refuses a node of that name with another password
    (k3s-io/k3s pkg/nodepassword).
    """

    commands: ClassVar = {"secrets": f"{KUBECTL} -n kube-system get secrets -o name"}

    def read_sections(self, found: Sections) -> tuple[str, ...] | None:
        section = found["secrets"]
        if section.status != 0:
            return None
        names = (line.removeprefix("secret/") for line in section.lines)
        suffix = ".node-password.k3s"
        return tuple(sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix)))


class ManifestDrift(SectionsFact[bool | None]):
    """True if objects differ from a manifest; None if that is unknown: no API server, or an unknown kind."""

    def command(self, manifest: str) -> Launch:
        return self.sections({"diff": f"{KUBECTL} diff -f - <<'MANIFEST'\n{manifest.rstrip()}\nMANIFEST\n"})

    def read_sections(self, found: Sections) -> bool | None:
        return {0: False, 1: True}.get(found["diff"].status)


class EvictablePods(SectionsFact[dict[str, tuple[str, ...]] | None]):
    """Node -> "namespace/name" of the pods that a drain moves away; None if no API server answers here.

    Pods of DaemonSets and static pods stay on their node; finished ones run nowhere.
    """

    commands: ClassVar = {"pods": f"{KUBECTL} get pods -A -o json"}

    def read_sections(self, found: Sections) -> dict[str, tuple[str, ...]] | None:
        items = read_items(found["pods"])
        if items is None:
            return None
        pods: dict[str, list[str]] = {}
        for pod in items:
            if is_evictable(pod):
                name = f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
                pods.setdefault(pod["spec"]["nodeName"], []).append(name)
        return {node: tuple(sorted(names)) for node, names in sorted(pods.items())}


def is_evictable(pod: dict[str, Any]) -> bool:
    """Return True if a drain would move this Pod object away."""
    metadata = pod["metadata"]
    kinds = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
    finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    is_static = "kubernetes.io/config.mirror" in (metadata.get("annotations") or {})
    return bool(pod["spec"].get("nodeName")) and not finished and not is_static and "DaemonSet" not in kinds
