"""The Kubernetes cluster, as the API server on a head node tells it."""

from __future__ import annotations

import json

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.cluster import ClusterNode, read_node
from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections


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
        nodes = (read_node(item) for item in json.loads(section.text)["items"])
        return tuple(sorted(nodes, key=lambda node: node.name))


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
