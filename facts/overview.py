"""All that the status tells of a node, in one round trip: its parts are facts of their own, read side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.cluster import ClusterNodes
from gb10.facts.dgx import DgxRelease
from gb10.facts.gpu import Gpu
from gb10.facts.helm import HelmReleases
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.operators import ClusterPolicyState, GpuOperatorPods, NetworkOperatorPods, NicClusterPolicyState
from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.k3s import KUBECONFIG, KUBECTL
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.operators import GPU_NAMESPACE, NETWORK_NAMESPACE
from gb10.facts.reading.overview import Overview
from gb10.facts.reading.sections import Section, read_sections

MARK = "@@gb10-part "
# All parts run at once, and each prints when it has ended. Who prints holds a lock on a file that every system has,
# so that no two prints mix; nothing is written anywhere.
PRINT_PART = r"""p() { flock 9; printf '@@gb10-part %s\n%s\n' "$1" "$2"; };"""
NODE_PARTS: dict[str, FactBase[Any]] = {
    "identity": NodeIdentity(),
    "k3s": K3sInstall(),
    "connectx7": RdmaLinks(),
    "gpu": Gpu(),
    "dgx": DgxRelease(),
}
RELEASES = "releases"
# The other facts of the cluster are read from one answer of the API server: a call costs more than what it brings.
CLUSTER = "cluster"
DEFINITIONS = {"ClusterPolicy": "clusterpolicies.nvidia.com", "NicClusterPolicy": "nicclusterpolicies.mellanox.com"}
READ_CLUSTER = f"""kinds=nodes,pods
defined=$({KUBECTL} get crd {" ".join(DEFINITIONS.values())} --ignore-not-found -o name) || exit 1
for name in $defined; do kinds=$kinds,${{name#*/}}; done
{KUBECTL} get "$kinds" -A -o json"""


class NodeOverview(FactBase[Overview]):
    """The overview of a node. A part that is not understood is in `troubles` and fails no other.

    The cluster is asked only where a K3s server has left its kubeconfig. Raises FactProcessError for the host whose
    output is no overview at all.
    """

    def command(self) -> StringCommand:
        node = " ".join(_call(name, fact.command()) for name, fact in NODE_PARTS.items())
        cluster = f"{_call(CLUSTER, sections({CLUSTER: READ_CLUSTER}))} {_call(RELEASES, _RELEASES.command())}"
        return StringCommand(PRINT_PART, node, f"if [ -e {KUBECONFIG} ]; then", cluster, "fi; wait")

    @understood
    def process(self, output: list[str]) -> Overview:
        found = _read_parts(output)
        if missing := NODE_PARTS.keys() - found.keys():
            raise ValueError(f"nothing about {', '.join(sorted(missing))}")
        values: dict[str, Any] = {}
        troubles: dict[str, str] = {}

        def read(name: str, fact: FactBase[Any], lines: list[str]) -> None:
            try:
                values[name] = fact.process(lines)
            except FactProcessError as error:
                troubles[name] = str(error)

        for name, lines in found.items():
            if name == CLUSTER:
                for part, answer in _split(read_sections(lines)[CLUSTER]).items():
                    read(part, _CLUSTER_PARTS[part], answer)
            else:
                read(name, NODE_PARTS.get(name, _RELEASES), lines)
        return Overview(**values, troubles=troubles)


_RELEASES = HelmReleases()
_CLUSTER_PARTS: dict[str, FactBase[Any]] = {
    "nodes": ClusterNodes(),
    "cluster_policies": ClusterPolicyState(),
    "nic_cluster_policies": NicClusterPolicyState(),
    "gpu_operator_pods": GpuOperatorPods(),
    "network_operator_pods": NetworkOperatorPods(),
}


def _call(name: str, command: str | StringCommand) -> str:
    return f'( said=$({StringCommand(command).get_raw_value()}); p {name} "$said" ) 9</bin/sh &'


def _split(answer: Section) -> dict[str, list[str]]:
    """Given the answer of the API server, return what each fact of the cluster reads; nothing where there is none."""
    if answer.status != 0:
        return {}
    items = json.loads(answer.text)["items"]

    def of(kind: str, namespace: str | None = None) -> list[Any]:
        chosen = (item for item in items if item["kind"] == kind)
        return [item for item in chosen if namespace in (None, item["metadata"].get("namespace"))]

    def policies(kind: str) -> list[str]:
        return _printed({"definition": DEFINITIONS[kind], "policies": of(kind)})

    return {
        "nodes": _printed({"nodes": of("Node")}),
        "cluster_policies": policies("ClusterPolicy"),
        "nic_cluster_policies": policies("NicClusterPolicy"),
        "gpu_operator_pods": _printed({"pods": of("Pod", GPU_NAMESPACE)}),
        "network_operator_pods": _printed({"pods": of("Pod", NETWORK_NAMESPACE)}),
    }


def _printed(found: Mapping[str, str | list[Any]]) -> list[str]:
    """Sections as the node prints them."""
    texts = {name: text if isinstance(text, str) else json.dumps({"items": text}) for name, text in found.items()}
    return [line for name, text in texts.items() for line in (f"@@gb10 {name}", text, "", "@@gb10= 0")]


def _read_parts(output: list[str]) -> dict[str, list[str]]:
    """Given what the command printed, return the lines of each part."""
    found: dict[str, list[str]] = {}
    name = None
    for line in output:
        if line.startswith(MARK):
            name = line.removeprefix(MARK)
            if name not in (*NODE_PARTS, CLUSTER, RELEASES) or name in found:
                raise ValueError(f"a part {name!r} was not asked for")
            found[name] = []
        elif name is not None:
            found[name].append(line)
    return found
