"""Why a cluster is not healthy, what deserves attention, and which optional parts are absent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

from gb10.controller.cluster.status_model import (
    ClusterStatus,
    HalfStatus,
    KubernetesStatus,
    NodeStatus,
    OperatorStatus,
    ServingStatus,
)
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory

PORT_FAULTS = {
    "same_subnet": "both halves of port {port} of {node} are in one subnet: each needs one of its own",
    "mtu_mismatch": "the halves of port {port} of {node} have different MTUs",
}


@dataclass(frozen=True)
class Finding:
    """A reason. `error` has the remedy; None if running the bootstrap again helps."""

    reason: str
    error: Gb10Error | None = None


def reasons(status: ClusterStatus, inventory: Inventory, api_answers: bool) -> Iterator[Finding]:
    """Yield the reasons why a cluster is not healthy."""
    installed = [node for node in status.nodes if node.k3s]
    for node in status.nodes:
        if reason := _node_reason(node, bool(installed) and node.group in ("head", "workers"), api_answers):
            yield Finding(reason)
    # Agents have no API server, so none is missing if --limit leaves out the head.
    if any(_serves(node) for node in status.nodes) and installed and not api_answers:
        yield Finding("no API server answers")
    for name, operator in operators(status).items():
        if operator and operator.installed and not operator.ready:
            why = "; ".join(operator.reasons)
            yield Finding(f"the {name} is not ready: {why}", Gb10Error("OPERATOR_NOT_READY"))
    for node in status.nodes:
        if node.gpu and node.gpu.trouble:
            yield _fault("GPU_FAULT", f"the GPU of {node.name} does not answer: {node.gpu.trouble}", node.name)
        for reason in rail_faults(node, inventory.host(node.name).rails):
            yield _fault("RAIL_FAULT", reason, node.name)
    for node_name, reason in disagreements(status.nodes):
        yield _fault("RAIL_FAULT", reason, node_name)
    yield from _serving_reasons(status.serving)


def _serves(node: NodeStatus) -> bool:
    """Return True if a node has, or should have, an API server."""
    return node.group == "head" or bool(node.k3s and node.k3s.role == "server")


def _serving_reasons(serving: ServingStatus | None) -> Iterator[Finding]:
    """Yield a reason if serving fails. It is none that nothing should be served, or that a model is loading."""
    if serving and serving.reasons and not serving.loading and serving.mode != "undecided":
        asked = serving.node or next(node.node for node in serving.nodes if node.trouble)
        yield _fault("SERVING_FAILED", f"the model is not served: {'; '.join(serving.reasons)}", asked)


def _fault(code: str, reason: str, node: str) -> Finding:
    return Finding(reason, Gb10Error(code, reason, host=node))


def operators(status: ClusterStatus) -> dict[str, OperatorStatus | None]:
    """Return the operators of a status by their common names."""
    return {"GPU Operator": status.gpu_operator, "Network Operator": status.network_operator}


def _node_reason(node: NodeStatus, wants_k3s: bool, api_answers: bool) -> str | None:
    """Return why a node makes the cluster unhealthy, or None."""
    if not node.reachable:
        return node.problem or f"{node.name} does not answer"
    return node.problem or (_k3s_reason(node, api_answers) if wants_k3s else None)


def _k3s_reason(node: NodeStatus, api_answers: bool) -> str | None:
    if node.k3s is None:
        return f"{node.name} has no K3s, but other nodes have"
    if node.k3s.unit_state != "active":
        return f"K3s on {node.name} is {node.k3s.unit_state or 'not set up as a service'}"
    if not api_answers:
        return None  # reported once for the cluster
    if node.kubernetes is None:
        return f"{node.name} is not a node of the Kubernetes cluster"
    if not node.kubernetes.ready:
        return f"{node.name} is not Ready" + (f": {node.kubernetes.reason}" if node.kubernetes.reason else "")
    return None


def rail_faults(node: NodeStatus, rails: Mapping[str, str]) -> Iterator[str]:
    """Yield the faults of the rails that the inventory gives to a node; nothing without a ConnectX-7."""
    if node.connectx7 is None:
        return
    halves = {half.interface: half for half in node.connectx7.halves}
    for rail, interface in sorted(rails.items()):
        half = halves.get(interface)
        if half is None:
            yield f"rail {rail} of {node.name}: there is no interface {interface}"
        elif not half.up:
            state = " ".join(filter(None, (half.state, half.physical_state)))
            yield f"rail {rail} of {node.name} ({interface}) is down{f': {state}' if state else ''}"
        elif not networks(half):
            yield f"rail {rail} of {node.name} ({interface}) has no address"
    used = {half.port for half in node.connectx7.halves if half.rail}
    for port in node.connectx7.ports:
        for fault in port.faults if port.number in used else ():
            if fault in PORT_FAULTS:
                yield PORT_FAULTS[fault].format(port=port.number, node=node.name)


def disagreements(nodes: Iterable[NodeStatus]) -> Iterator[tuple[str, str]]:
    """Yield mismatches between the rails of several nodes: the node that differs, and the reason."""
    ends: dict[str, list[tuple[NodeStatus, HalfStatus]]] = {}
    for node in nodes:
        for half in node.connectx7.halves if node.connectx7 else ():
            if half.rail and half.up:
                ends.setdefault(half.rail, []).append((node, half))
    for rail, found in sorted(ends.items()):
        first, half = found[0]
        for node, other in found[1:]:
            if other.mtu_bytes != half.mtu_bytes:
                yield (
                    node.name,
                    f"rail {rail} has MTU {half.mtu_bytes} on {first.name} and {other.mtu_bytes} on {node.name}",
                )
            if networks(half) and networks(other) and not networks(half) & networks(other):
                yield node.name, f"rail {rail} of {first.name} and {node.name} are in different subnets"


def networks(half: HalfStatus) -> set[str]:
    """Return the subnets of a half, without IPv6 link-local, which all interfaces share."""
    found = (ip_interface(address) for address in half.addresses or ())
    return {str(interface.network) for interface in found if interface.version == 4 or not interface.is_link_local}


def warnings(status: ClusterStatus, inventory: Inventory, members: Mapping[str, KubernetesStatus]) -> Iterator[str]:
    """Yield what deserves attention but does not make the cluster unhealthy."""
    yield from (f"{node.name} is cordoned" for node in status.nodes if node.kubernetes and node.kubernetes.cordoned)
    for node in status.nodes:
        if node.k3s and node.k3s.stale:
            yield f"the files of K3s on {node.name} have changed since it started"
    for node in status.nodes:
        wanted = inventory.host(node.name).wanted_k3s
        if node.k3s and node.k3s.version and wanted and node.k3s.version != wanted:
            yield f"{node.name} has K3s {node.k3s.version}, the inventory wants {wanted}"
    versions = sorted({node.k3s.version for node in status.nodes if node.k3s and node.k3s.version})
    if len(versions) > 1:
        yield f"the nodes have different versions of K3s: {', '.join(versions)}"
    if status.serving and status.serving.mode == "undecided":
        yield f"it is unclear what is served: {'; '.join(status.serving.reasons)}"
    known = {host.node_name for host in inventory.hosts}
    for name in sorted(members.keys() - known):
        yield f"Kubernetes has a node {name} that is not in the inventory"
    drivers = sorted({node.gpu.driver_version for node in status.nodes if node.gpu and node.gpu.driver_version})
    if len(drivers) > 1:
        yield f"the nodes have different GPU drivers: {', '.join(drivers)}"


def notes(status: ClusterStatus, inventory: Inventory) -> Iterator[str]:
    """Yield the optional parts that are absent."""
    if not any(node.k3s for node in status.nodes):
        yield "K3s is not installed; it is optional"
    elif not any(_serves(node) for node in status.nodes):
        yield "the head, which alone knows Kubernetes and its operators, was not read"
    for name, operator in operators(status).items():
        if operator and not operator.installed:
            yield f"the {name} is not installed; it is optional"
    answering = [node for node in status.nodes if node.reachable and not node.problem]
    if without := [node.name for node in answering if node.gpu is None]:
        yield f"no GPU driver on {', '.join(without)}: there is no nvidia-smi"
    if without := [node.name for node in answering if node.connectx7 is None]:
        yield f"no ConnectX-7 on {', '.join(without)}"
    if without := [n.name for n in answering if n.connectx7 and not inventory.host(n.name).rails]:
        yield f"the inventory names no rails for {', '.join(without)}"
