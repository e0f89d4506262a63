"""The state of the cluster, from one look at its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gb10.controller.cluster.health import Finding, notes, reasons, warnings
from gb10.controller.cluster.serving import build_serving, described, state_fact
from gb10.controller.cluster.status_model import (
    ClusterStatus,
    ConnectX7Status,
    DgxStatus,
    GpuStatus,
    HalfStatus,
    K3sStatus,
    KubernetesStatus,
    NodeStatus,
    OperatorStatus,
    PortStatus,
)
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.results import FactsResult
from gb10.controller.run.runner import Runner
from gb10.facts.reading.readiness import GPU, NETWORK, Operator

OVERVIEW = "gb10.facts.overview.NodeOverview"
MOST_PODS = 3  # that are quoted; the others are counted


def cluster_status(runner: Runner) -> ClusterStatus:
    """Look at the runner's hosts in one pyinfra run, return what they say."""
    # Without a completion, which a busy engine may take long for.
    serving = [state_fact(runner.inventory, complete=False)] if described(runner.inventory) else []
    return build_status(runner.inventory, runner.facts([OVERVIEW, *serving]), runner.know)


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
    cluster = _cluster(hosts, facts)
    members = {member["name"]: KubernetesStatus.model_validate(member) for member in cluster.get("nodes") or ()}
    status = ClusterStatus(
        healthy=True,
        nodes=tuple(_node(host, facts, members) for host in hosts),
        gpu_operator=_operator(cluster, GPU, members),
        network_operator=_operator(cluster, NETWORK, members),
        serving=build_serving(inventory, facts, complete=False) if described(inventory) else None,
    )
    found = list(reasons(status, inventory, bool(cluster)))
    return status.model_copy(
        update={
            "healthy": not found,
            "reasons": tuple(dict.fromkeys(finding.reason for finding in found)),
            "remedies": _remedies(found, facts.errors, know),
            "warnings": tuple(warnings(status, inventory, members)),
            "notes": tuple(notes(status, inventory)) if any(node.reachable for node in status.nodes) else (),
        }
    )


def _remedies(
    found: Iterable[Finding], errors: Iterable[Gb10Error], know: Callable[[Gb10Error], Gb10Error]
) -> tuple[str, ...]:
    """What to type: first for what pyinfra reported, where the general remedy does not help, then for each finding."""
    causes = [error.remedy for error in errors]
    general = None if causes else Gb10Error("UNHEALTHY")
    causes += [know(error).remedy for finding in found if (error := finding.error or general)]
    return tuple(dict.fromkeys(causes))


def _cluster(hosts: Iterable[InventoryHost], facts: FactsResult) -> dict[str, Any]:
    """What the first host with an API server says, the head first; empty where none answers."""
    for host in sorted(hosts, key=lambda host: "head" not in host.groups):
        overview: dict[str, Any] = facts.of(host.name, OVERVIEW) or {}
        if overview.get("nodes") is not None:
            return overview
    return {}


def _node(host: InventoryHost, facts: FactsResult, members: dict[str, KubernetesStatus]) -> NodeStatus:
    overview: dict[str, Any] = facts.of(host.name, OVERVIEW) or {}
    identity: dict[str, Any] = overview.get("identity") or {}
    install, dgx = overview.get("k3s"), overview.get("dgx")
    return NodeStatus(
        name=host.name,
        node_name=host.node_name,
        group="head" if "head" in host.groups else "workers" if "workers" in host.groups else None,
        reachable=facts.has(host.name, OVERVIEW),
        problem=_problem(host, facts, overview),
        hostname=identity.get("hostname"),
        architecture=identity.get("architecture"),
        os=identity.get("os_name"),
        k3s=None if install is None else K3sStatus.model_validate(install),
        kubernetes=members.get(host.node_name),
        gpu=_gpu(overview.get("gpu")),
        connectx7=_connectx7(host, overview.get("connectx7")),
        dgx=None if dgx is None else DgxStatus.model_validate(dgx),
    )


def _problem(host: InventoryHost, facts: FactsResult, overview: dict[str, Any]) -> str | None:
    said = next((error.summary for error in facts.errors if error.host == host.name), None)
    if said is None and not facts.has(host.name, OVERVIEW) and facts.errors:
        return f"{host.name} was not asked, because pyinfra gave up: {facts.errors[0].summary}"
    if said is None and (troubles := overview.get("troubles")):
        return f"on {host.name} could not be read: " + "; ".join(f"{part} ({why})" for part, why in troubles.items())
    return said


def _gpu(found: dict[str, Any] | None) -> GpuStatus | None:
    if found is None:
        return None
    first: dict[str, Any] = next(iter(found["devices"]), {})
    return GpuStatus(
        name=first.get("name"),
        count=len(found["devices"]),
        driver_version=first.get("driver_version"),
        cuda_version=found["cuda_version"],
        memory_total_mib=_mib(found["memory_total_kib"]),
        memory_available_mib=_mib(found["memory_available_kib"]),
        processes=None if found["processes"] is None else len(found["processes"]),
        trouble=found["trouble"],
    )


def _mib(kib: int | None) -> int | None:
    return None if kib is None else kib // 1024


def _connectx7(host: InventoryHost, found: dict[str, Any] | None) -> ConnectX7Status | None:
    if not found or not found["links"]:
        return None
    rails = {interface: rail for rail, interface in host.rails.items()}
    return ConnectX7Status(
        halves=tuple(
            HalfStatus(
                **{
                    **{key: link[key] for key in HalfStatus.model_fields.keys() & link.keys()},
                    "rail": rails.get(link["netdev"]),
                    "interface": link["netdev"],
                    "port": link["physical_port"],
                }
            )
            for link in found["links"]
        ),
        ports=tuple(PortStatus.model_validate(port) for port in found["ports"]),
    )


def _operator(
    cluster: dict[str, Any], operator: Operator, members: dict[str, KubernetesStatus]
) -> OperatorStatus | None:
    if not cluster:
        return None
    policies = cluster["cluster_policies" if operator is GPU else "nic_cluster_policies"] or ()
    pods = cluster["gpu_operator_pods" if operator is GPU else "network_operator_pods"] or ()
    release: dict[str, Any] = next(
        (found for found in cluster["releases"] or () if found["chart"] == operator.release), {}
    )
    policy: dict[str, Any] = next((found for found in policies if found["name"] == operator.policy), {})
    offered = {name: member.allocatable.get(operator.resource, "0") for name, member in members.items()}
    installed = bool(policies) or release.get("status", "uninstalled") != "uninstalled"
    lacks = tuple(_lacks(release, policy, operator, offered, pods)) if installed else ()
    return OperatorStatus(
        installed=installed,
        ready=installed and not lacks,
        release=release.get("status"),
        chart_version=release.get("chart_version"),
        state=policy.get("state"),
        resource=operator.resource,
        offered=offered,
        pods=len(pods),
        healthy_pods=sum(pod["healthy"] for pod in pods),
        restarts=sum(pod["restarts"] for pod in pods),
        reasons=lacks,
    )


def _lacks(
    release: dict[str, Any], policy: dict[str, Any], operator: Operator, offered: dict[str, str], pods: Iterable[Any]
) -> list[str]:
    """Why an operator that is installed is not ready. Pods explain it, they do not decide it."""
    lacks = [*_deployed_lacks(release), *_policy_lacks(policy, operator.policy)]
    if without := [name for name, amount in offered.items() if amount == "0"]:
        lacks.append(f"{', '.join(without)} offer{'s' if len(without) == 1 else ''} no {operator.resource}")
    return [*lacks, *_waiting_pods(pods)] if lacks else []


def _deployed_lacks(release: dict[str, Any]) -> Iterator[str]:
    if release and release["status"] != "deployed":
        yield f"its release is {release['status']}"


def _policy_lacks(policy: dict[str, Any], name: str) -> Iterator[str]:
    if not policy:
        yield f"it has no policy {name}"
    elif policy["state"] != "ready":
        parts = "".join(f", {part['name']} is {part['state']}" for part in policy.get("lagging") or ())
        yield f"its policy is {policy['state'] or 'without a state yet'}{parts}"
        if policy["trouble"]:
            yield str(policy["trouble"])


def _waiting_pods(pods: Iterable[Any]) -> Iterator[str]:
    waiting = [pod for pod in pods if not pod["healthy"]]
    for pod in waiting[:MOST_PODS]:
        why = f" ({'; '.join(pod['waiting'][:2])})" if pod["waiting"] else ""
        yield f"pod {pod['name']} is {pod['status']}{why}"
    if len(waiting) > MOST_PODS:
        yield f"{len(waiting) - MOST_PODS} more pods wait"
