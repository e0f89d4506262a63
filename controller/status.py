"""The state of the cluster in one model, behind the table and `--json` alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.results import FactsResult
from gb10.controller.runner import Runner

IDENTITY = "gb10.facts.identity.NodeIdentity"
INSTALL = "gb10.facts.k3s.K3sInstall"
NODES = "gb10.facts.cluster.ClusterNodes"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class K3sStatus(_Model):
    """What of K3s is installed on a node, as systemd and the binary say."""

    version: str | None
    role: str | None
    unit_state: str | None
    unit_enabled: bool = False
    stale: bool = False


class KubernetesStatus(_Model):
    """A node as the API server sees it."""

    ready: bool
    cordoned: bool
    roles: tuple[str, ...]
    version: str
    runtime: str
    addresses: dict[str, list[str]]
    reason: str | None = None


class NodeStatus(_Model):
    """A node of the inventory."""

    name: str
    group: Literal["head", "workers"] | None
    reachable: bool
    problem: str | None = None
    hostname: str | None = None
    architecture: str | None = None
    os: str | None = None
    k3s: K3sStatus | None = None
    kubernetes: KubernetesStatus | None = None


class ClusterStatus(_Model):
    """The cluster. Healthy: every node answers and, where there is K3s at all, every node is Ready.

    `reasons` say why it is not healthy and `remedies` what to type; `warnings` are worth a look all the same, `notes`
    tell what is meant to be so.
    """

    schema_version: Literal[1] = 1
    healthy: bool
    reasons: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    nodes: tuple[NodeStatus, ...]


def cluster_status(runner: Runner) -> ClusterStatus:
    """Read the facts of the runner's hosts in one pyinfra run, return what they say."""
    return build_status(runner.inventory, runner.facts([IDENTITY, INSTALL, NODES]), runner.know)


def unhealthy(status: ClusterStatus) -> Gb10Error | None:
    """Given a status, return it as an error unless it is healthy."""
    return None if status.healthy else Gb10Error("UNHEALTHY", reason="; ".join(status.reasons))


def build_status(
    inventory: Inventory, facts: FactsResult, know: Callable[[Gb10Error], Gb10Error] = lambda error: error
) -> ClusterStatus:
    """Given an inventory and what its hosts said, return the status. A host that said nothing is unreachable.

    `know` adds to an error what its remedy needs.
    """
    hosts = [host for host in inventory.hosts if host.name in facts.hosts]
    kubernetes = _kubernetes(hosts, facts)
    nodes = tuple(_node(host, facts, kubernetes) for host in hosts)
    installed = [node for node in nodes if node.k3s]
    found = (_reason(node, bool(installed), kubernetes is not None) for node in nodes)
    reasons = [reason for reason in found if reason]
    if installed and kubernetes is None:
        reasons.append("no API server answers")
    remedies = [error.remedy for error in facts.errors]
    if reasons and not remedies:
        remedies = [know(Gb10Error("UNHEALTHY")).remedy]
    notes = [] if installed else ["K3s is not installed; it is optional"]
    return ClusterStatus(
        healthy=not reasons,
        reasons=tuple(reasons),
        remedies=tuple(dict.fromkeys(remedies)),
        warnings=tuple(_warnings(inventory, nodes, kubernetes or {})),
        notes=tuple(notes) if any(node.reachable for node in nodes) else (),
        nodes=nodes,
    )


def _kubernetes(hosts: Iterable[InventoryHost], facts: FactsResult) -> dict[str, KubernetesStatus] | None:
    """The Nodes by name, from the first host with an API server, the head first; None where none answers."""
    for host in sorted(hosts, key=lambda host: "head" not in host.groups):
        if (found := facts.of(host.name, NODES)) is not None:
            return {node["name"]: KubernetesStatus.model_validate(node) for node in found}
    return None


def _node(host: InventoryHost, facts: FactsResult, kubernetes: dict[str, KubernetesStatus] | None) -> NodeStatus:
    identity: dict[str, Any] = facts.of(host.name, IDENTITY) or {}
    install = facts.of(host.name, INSTALL)
    reachable = facts.has(host.name, IDENTITY) or facts.has(host.name, INSTALL)
    problem = next((error.summary for error in facts.errors if error.host == host.name), None)
    if not reachable and problem is None and facts.errors:
        problem = f"{host.name} was not asked, because pyinfra gave up: {facts.errors[0].summary}"
    return NodeStatus(
        name=host.name,
        group="head" if "head" in host.groups else "workers" if "workers" in host.groups else None,
        reachable=reachable,
        problem=problem,
        hostname=identity.get("hostname"),
        architecture=identity.get("architecture"),
        os=identity.get("os_name"),
        k3s=None if install is None else K3sStatus.model_validate(install),
        kubernetes=(kubernetes or {}).get(host.node_name),
    )


def _reason(node: NodeStatus, wants_k3s: bool, api_answers: bool) -> str | None:
    """Why a node keeps the cluster from being healthy, or None."""
    if not node.reachable:
        return node.problem or f"{node.name} does not answer"
    return node.problem or (_k3s_reason(node, api_answers) if wants_k3s else None)


def _k3s_reason(node: NodeStatus, api_answers: bool) -> str | None:
    if node.k3s is None:
        return f"{node.name} has no K3s, other nodes have"
    if node.k3s.unit_state != "active":
        return f"K3s on {node.name} is {node.k3s.unit_state or 'not set up as a service'}"
    if not api_answers:
        return None  # said once, not for each node
    if node.kubernetes is None:
        return f"{node.name} is not a node of the Kubernetes cluster"
    if not node.kubernetes.ready:
        return f"{node.name} is not Ready" + (f": {node.kubernetes.reason}" if node.kubernetes.reason else "")
    return None


def _warnings(
    inventory: Inventory, nodes: tuple[NodeStatus, ...], kubernetes: dict[str, KubernetesStatus]
) -> list[str]:
    warnings = [f"{node.name} is cordoned" for node in nodes if node.kubernetes and node.kubernetes.cordoned]
    warnings += [f"K3s on {node.name} runs with files that have changed since" for node in nodes if _stale(node)]
    for node in nodes:
        wanted = inventory.host(node.name).k3s_version
        if node.k3s and node.k3s.version and wanted and node.k3s.version != wanted:
            warnings.append(f"{node.name} has K3s {node.k3s.version}, the inventory wants {wanted}")
    versions = sorted({node.k3s.version for node in nodes if node.k3s and node.k3s.version})
    if len(versions) > 1:
        warnings.append(f"the nodes have different versions of K3s: {', '.join(versions)}")
    known = {host.node_name for host in inventory.hosts}
    warnings += [
        f"Kubernetes has a node {name} that the inventory does not know" for name in sorted(kubernetes.keys() - known)
    ]
    return warnings


def _stale(node: NodeStatus) -> bool:
    return node.k3s is not None and node.k3s.stale
