"""Pods of the cluster, by the node that they are on."""

from __future__ import annotations

import json
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections

MIRROR = "kubernetes.io/config.mirror"  # a static pod, which belongs to its node


class EvictablePods(FactBase[dict[str, tuple[str, ...]] | None]):
    """Node -> "namespace/name" of the pods that a drain has to move away; None where no API server answers here.

    Pods of DaemonSets and static pods stay on their node, finished ones run nowhere. Raises FactProcessError for the
    host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections({"pods": f"{KUBECTL} get pods -A -o json"})

    @understood
    def process(self, output: list[str]) -> dict[str, tuple[str, ...]] | None:
        section = read_sections(output)["pods"]
        if section.status != 0:
            return None
        found: dict[str, list[str]] = {}
        for pod in json.loads(section.text)["items"]:
            if is_evictable(pod):
                name = f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
                found.setdefault(pod["spec"]["nodeName"], []).append(name)
        return {node: tuple(sorted(names)) for node, names in sorted(found.items())}


def is_evictable(pod: dict[str, Any]) -> bool:
    """Given a pod as the API server has it, tell whether a drain would have to move it."""
    metadata = pod["metadata"]
    kinds = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
    finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    is_static = MIRROR in (metadata.get("annotations") or {})
    return bool(pod["spec"].get("nodeName")) and not finished and not is_static and "DaemonSet" not in kinds
