"""Pods of the cluster, by the node that they are on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section

MIRROR = "kubernetes.io/config.mirror"  # a static pod, which belongs to its node


class EvictablePods(SectionsFact[dict[str, tuple[str, ...]] | None]):
    """Node -> "namespace/name" of the pods that a drain moves away; None if no API server answers here.

    Pods of DaemonSets and static pods stay on their node, finished ones run nowhere. Raises FactProcessError for the
    host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections({"pods": f"{KUBECTL} get pods -A -o json"})

    def read_sections(self, found: Mapping[str, Section]) -> dict[str, tuple[str, ...]] | None:
        section = found["pods"]
        if section.status != 0:
            return None
        pods: dict[str, list[str]] = {}
        for pod in json.loads(section.text)["items"]:
            if is_evictable(pod):
                name = f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
                pods.setdefault(pod["spec"]["nodeName"], []).append(name)
        return {node: tuple(sorted(names)) for node, names in sorted(pods.items())}


def is_evictable(pod: dict[str, Any]) -> bool:
    """Return True if a drain would move this Pod object away."""
    metadata = pod["metadata"]
    kinds = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
    finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    is_static = MIRROR in (metadata.get("annotations") or {})
    return bool(pod["spec"].get("nodeName")) and not finished and not is_static and "DaemonSet" not in kinds
