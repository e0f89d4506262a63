"""The state of the cluster, from facts that are read in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gb10.controller.cluster.health import Finding, notes, reasons, warnings
from gb10.controller.cluster.queries import OVERVIEW, serving_of
from gb10.controller.cluster.serving import build_serving, described
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
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.node import GpuState
from gb10.facts.reading.operators import GPU, NETWORK, Operator, OperatorPod, Policies, lacking, own_policy, why_waiting
from gb10.facts.reading.overview import Overview
from gb10.facts.reading.rdma import ConnectX7, RdmaLink


def cluster_status(runner: Runner) -> ClusterStatus:
    """Read the status of the runner's hosts in one run."""
    # No completion: a busy engine may take long for one.
    serving = [serving_of(runner.inventory, complete=False)] if described(runner.inventory) else []
    return build_status(runner.inventory, runner.facts([OVERVIEW, *serving]), runner.know)


def unhealthy(status: ClusterStatus) -> Gb10Error | None:
    """Return a status as an error, or None if it is healthy."""
    return None if status.healthy else Gb10Error("UNHEALTHY", reason="; ".join(status.reasons))


def build_status(
    inventory: Inventory, facts: FactsResult, know: Callable[[Gb10Error], Gb10Error] = lambda error: error
) -> ClusterStatus:
    """Return the status that the facts of the hosts show. A host without facts is unreachable.

    + know: adds to an error the details that its remedy needs
    """
    hosts = [host for host in inventory.hosts if host.name in facts.hosts]
    cluster = _cluster(hosts, facts)
    nodes = (cluster.nodes if cluster else None) or ()
    members = {node.name: KubernetesStatus.model_validate(node, from_attributes=True) for node in nodes}
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
    """Return what to type: first for errors of the run, then for each finding."""
    causes = [error.remedy for error in errors]
    general = None if causes else Gb10Error("UNHEALTHY")
    causes += [know(error).remedy for finding in found if (error := finding.error or general)]
    return tuple(dict.fromkeys(causes))


def _cluster(hosts: Iterable[InventoryHost], facts: FactsResult) -> Overview | None:
    """Return the overview of the first host with an API server, trying the head first; None if none answers."""
    for host in sorted(hosts, key=lambda host: "head" not in host.groups):
        overview = facts.of(host.name, OVERVIEW)
        if overview and overview.nodes is not None:
            return overview
    return None


def _node(host: InventoryHost, facts: FactsResult, members: dict[str, KubernetesStatus]) -> NodeStatus:
    overview = facts.of(host.name, OVERVIEW) or Overview()
    identity, k3s, dgx = overview.identity, overview.k3s, overview.dgx
    return NodeStatus(
        name=host.name,
        node_name=host.node_name,
        group="head" if "head" in host.groups else "workers" if "workers" in host.groups else None,
        reachable=facts.has(host.name, OVERVIEW),
        problem=_problem(host, facts, overview),
        hostname=identity.hostname if identity else None,
        architecture=identity.architecture if identity else None,
        os=identity.os_name if identity else None,
        k3s=K3sStatus.model_validate(k3s, from_attributes=True) if k3s else None,
        kubernetes=members.get(host.node_name),
        gpu=_gpu(overview.gpu),
        connectx7=_connectx7(host, overview.connectx7),
        dgx=DgxStatus.model_validate(dgx, from_attributes=True) if dgx else None,
    )


def _problem(host: InventoryHost, facts: FactsResult, overview: Overview) -> str | None:
    said = next((error.summary for error in facts.errors if error.host == host.name), None)
    if said is None and not facts.has(host.name, OVERVIEW) and facts.errors:
        return f"{host.name} was not read, because pyinfra gave up: {facts.errors[0].summary}"
    if said is None and overview.troubles:
        told = "; ".join(f"{part} ({why})" for part, why in overview.troubles.items())
        return f"on {host.name} could not be read: {told}"
    return said


def _gpu(found: GpuState | None) -> GpuStatus | None:
    if found is None:
        return None
    first = next(iter(found.devices), None)
    return GpuStatus(
        name=first.name if first else None,
        count=len(found.devices),
        driver_version=first.driver_version if first else None,
        cuda_version=found.cuda_version,
        memory_total_mib=_mib(found.memory_total_kib),
        memory_available_mib=_mib(found.memory_available_kib),
        processes=None if found.processes is None else len(found.processes),
        trouble=found.trouble,
    )


def _mib(kib: int | None) -> int | None:
    return None if kib is None else kib // 1024


def _connectx7(host: InventoryHost, found: ConnectX7 | None) -> ConnectX7Status | None:
    if not found or not found.links:
        return None
    rails = {interface: rail for rail, interface in host.rails.items()}
    return ConnectX7Status(
        halves=tuple(_half(link, rails) for link in found.links),
        ports=tuple(PortStatus.model_validate(port, from_attributes=True) for port in found.ports),
    )


def _half(link: RdmaLink, rails: Mapping[str, str]) -> HalfStatus:
    return HalfStatus(
        rail=rails.get(link.netdev or ""),
        interface=link.netdev,
        device=link.device,
        port=link.physical_port,
        up=link.up,
        state=link.state,
        physical_state=link.physical_state,
        rate_gbps=link.rate_gbps,
        mtu_bytes=link.mtu_bytes,
        addresses=link.addresses,
    )


def _operator(
    cluster: Overview | None, operator: Operator, members: dict[str, KubernetesStatus]
) -> OperatorStatus | None:
    if not cluster:
        return None
    policies: Policies = (cluster.cluster_policies if operator is GPU else cluster.nic_cluster_policies) or ()
    pods = (cluster.gpu_operator_pods if operator is GPU else cluster.network_operator_pods) or ()
    release = next((found for found in cluster.releases or () if found.chart == operator.release), None)
    policy = own_policy(operator, policies)
    installed = bool(policies) or bool(release and release.status != "uninstalled")
    lacks = tuple(_lacks(release, operator, policies, cluster, pods)) if installed else ()
    return OperatorStatus(
        installed=installed,
        ready=installed and not lacks,
        release=release.status if release else None,
        chart_version=release.chart_version if release else None,
        state=policy.state if policy else None,
        resource=operator.resource,
        offered={name: member.allocatable.get(operator.resource, "0") for name, member in members.items()},
        pods=len(pods),
        healthy_pods=sum(pod.healthy for pod in pods),
        restarts=sum(pod.restarts for pod in pods),
        reasons=lacks,
    )


def _lacks(
    release: HelmRelease | None,
    operator: Operator,
    policies: Policies,
    cluster: Overview,
    pods: Iterable[OperatorPod],
) -> list[str]:
    """Return why an installed operator is not ready. Its pods only explain that, they do not decide it."""
    lacks = [f"its release is {release.status}"] if release and release.status != "deployed" else []
    lacks += lacking(operator, 1, policies, cluster.nodes)
    return [*lacks, *why_waiting(pods)] if lacks else []
