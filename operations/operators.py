"""NVIDIA's operators in the cluster: their policies, whether they are ready, and their end.

An operator is ready when its policy's state says so and every node offers the resource, not when some pod runs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase, FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNode, ClusterNodes, ManifestDrift
from gb10.facts.file import TextFile
from gb10.facts.helm import HelmRelease, HelmReleases
from gb10.facts.helm_client import STATE
from gb10.facts.k3s import BINARY, KUBECTL
from gb10.facts.operator_remains import OperatorRemains, OperatorRemnants
from gb10.facts.operators import (
    GPU_NAMESPACE,
    NETWORK_NAMESPACE,
    ClusterPolicy,
    ClusterPolicyState,
    NicClusterPolicy,
    NicClusterPolicyState,
)
from gb10.facts.rdma import ConnectX7, RdmaLinks
from gb10.operations.charts import NFD_CHART, brings_nfd, find, merged, should_bring_nfd
from gb10.operations.file import replace_file, show_diff
from gb10.operations.peer import peer_fact
from gb10.operations.reasons import why_waiting
from gb10.operations.trouble import guarded, known, refuse, say
from gb10.operations.wait import await_condition
from gb10.templates import render

Commands = Generator[StringCommand | FunctionCommand, None, None]
Policies = tuple[ClusterPolicy, ...] | tuple[NicClusterPolicy, ...] | None

NFD_GROUP = "nfd.k8s-sigs.io"
# Definitions whose objects node feature discovery makes by itself.
NFD_OWN = ("nodefeatures.nfd.k8s-sigs.io", "nodefeaturegroups.nfd.k8s-sigs.io")
# Objects that the charts and these deploys make; any other belongs to somebody else.
OWN_OBJECTS = frozenset({"cluster-policy", "nic-cluster-policy", "nvidia-nics-rules", "nvidia-kernel-modules"})
MANIFEST = f"{STATE}/nic-cluster-policy.yaml"
DELETE_SECONDS = 120


@dataclass(frozen=True)
class Operator:
    """What is to be known of an operator. The names are NVIDIA's."""

    release: str  # of helm, and the chart's name too
    namespace: str
    kind: str
    policy: str
    fact: type[FactBase[Any]]  # its policies
    resource: str  # what every node offers when it is ready
    groups: tuple[str, ...]  # of the definitions that its chart brings


GPU = Operator(
    release="gpu-operator",
    namespace=GPU_NAMESPACE,
    kind="ClusterPolicy",
    policy="cluster-policy",
    fact=ClusterPolicyState,
    resource="nvidia.com/gpu",
    groups=("nvidia.com", "resource.nvidia.com"),
)
NETWORK = Operator(
    release="network-operator",
    namespace=NETWORK_NAMESPACE,
    kind="NicClusterPolicy",
    policy="nic-cluster-policy",
    fact=NicClusterPolicyState,
    resource="rdma/rdma_shared_device_a",
    groups=(
        "mellanox.com",
        "k8s.cni.cncf.io",
        "maintenance.nvidia.com",
        "sriovnetwork.openshift.io",
        "sriovnetwork.k8snetworkplumbingwg.io",
    ),
)
OTHER = {GPU.release: NETWORK, NETWORK.release: GPU}


def with_nfd(
    operator: Operator, base: Mapping[str, Any], extra: Mapping[str, Any], releases: Sequence[HelmRelease]
) -> dict[str, Any]:
    """Given an operator's values, return them with node feature discovery on or off, and with `extra` over them.

    Both operators may be installed in one run: who takes it leaves a note for the other, which a dry run needs.
    """
    taken = host.data.get("gb10_nfd")
    own = find(releases, operator.release, operator.namespace)
    other = find(releases, OTHER[operator.release].release, OTHER[operator.release].namespace)
    rivals = [rival for rival in (other, *(r for r in releases if r.chart == NFD_CHART)) if rival]
    brings = taken in (None, operator.release) and should_bring_nfd(own, rivals, keeps_it=operator is NETWORK)
    nfd = {**base.get("nfd", {}), "enabled": brings}
    values = merged({**base, "nfd": nfd}, extra)
    if brings_nfd(values):
        host.data.gb10_nfd = operator.release
    elif taken == operator.release:
        host.data.gb10_nfd = None
    return values


@operation()
@guarded
def ready(operator: Operator, amount: int, seconds: int) -> Commands:
    """
    Wait until an operator is ready: its policy says so, and every node offers its resource.

    + operator: which one
    + amount: how much of the resource every node must offer at least
    + seconds: how long to wait

    Waiting changes nothing, so a dry run does not list it.
    """
    if not state.is_executing or await_condition(lambda: not _lacking(operator, amount), seconds):
        host.noop(f"{operator.kind} {operator.policy} is ready")
        return
    reasons = [*_lacking(operator, amount), *why_waiting(operator.namespace)]
    yield from refuse("OPERATOR_NOT_READY", f"{operator.release} after {seconds} s: {'; '.join(reasons)}")


def _lacking(operator: Operator, amount: int) -> list[str]:
    return lacking(operator, amount, known(operator.fact), known(ClusterNodes))


def lacking(operator: Operator, amount: int, policies: Policies, nodes: tuple[ClusterNode, ...] | None) -> list[str]:
    """Given what the cluster says, say what an operator lacks to be ready; nothing when it is."""
    if policies is None or nodes is None:
        return ["the API server does not answer"]
    policy = next((policy for policy in policies if policy.name == operator.policy), None)
    if policy is None:
        return [f"there is no {operator.kind} {operator.policy}"]
    return [*_policy_lacks(operator, policy), *(why for node in nodes for why in _node_lacks(operator, amount, node))]


def _policy_lacks(operator: Operator, policy: ClusterPolicy | NicClusterPolicy) -> Iterator[str]:
    if not policy.ready:
        parts = policy.lagging if isinstance(policy, NicClusterPolicy) else ()
        lagging = "".join(f", {part.name} is {part.state}" for part in parts)
        trouble = f" ({policy.trouble})" if policy.trouble else ""
        yield f"{operator.kind} is {policy.state or 'not looked at yet'}{lagging}{trouble}"


def _node_lacks(operator: Operator, amount: int, node: ClusterNode) -> Iterator[str]:
    offered = int(node.allocatable.get(operator.resource, "0"))
    if offered < amount:
        down = "" if node.ready else f", and is not Ready: {node.reason}"
        yield f"{node.name} offers {offered} {operator.resource}, wanted {amount}{down}"


def links_by_host(nodes: Sequence[Host]) -> dict[str, ConnectX7 | None]:
    """Given hosts, return the ConnectX-7 of each, or None where it has none or cannot be reached."""
    return {node.name: peer_fact(node, RdmaLinks) for node in nodes}


def interfaces_up(links: Mapping[str, ConnectX7 | None]) -> list[str]:
    """Given the ConnectX-7 of each host, return the interfaces that are up on any of them, sorted."""
    return sorted({netdev for connectx in links.values() if connectx for netdev in connectx.up_netdevs})


@operation()
@guarded
def nic_cluster_policy(nodes: Sequence[Host], repository: str, version: str) -> Commands:
    """
    Keep the Network Operator's policy: the RDMA shared device plugin on the interfaces that are up, and nothing else.

    + nodes: the hosts whose interfaces count
    + repository, version: of the plugin's image
    """
    interfaces = interfaces_up(links_by_host(nodes))
    if not interfaces:
        if state.is_executing:
            names = ", ".join(node.name for node in nodes)
            yield from refuse("RDMA_DOWN", f"no half of a ConnectX-7 is up on {names}")
        else:
            host.log_styled("no half of a ConnectX-7 is up yet: a run would be refused (RDMA_DOWN)", fg="yellow")
            yield StringCommand("true")  # an earlier operation of the run may bring them up
        return
    manifest = render(
        "operators/nic-cluster-policy.yaml.j2", interfaces=interfaces, repository=repository, version=version
    )
    if known(ManifestDrift, manifest=manifest) is False:
        host.noop(f"{NETWORK.policy} is as wanted")
        return
    if state.config.DIFF:
        last = known(TextFile, path=MANIFEST)
        show_diff(MANIFEST, last.content if last else "", manifest)
    yield replace_file(MANIFEST, manifest, "644")
    yield StringCommand(f"{KUBECTL} apply -f", MANIFEST)


@operation()
@guarded
def no_policy(operator: Operator) -> Commands:
    """
    Have no policy of an operator, while the operator still runs and can clean up after it.

    + operator: which one
    """
    if not any(policy.name == operator.policy for policy in known(operator.fact) or ()):
        host.noop(f"there is no {operator.kind} {operator.policy}")
        return
    yield _delete(operator.kind.lower(), operator.policy)
    yield StringCommand("rm -f", MANIFEST)


@operation()
@guarded
def removed(operator: Operator, purge: bool = False) -> Commands:
    """
    Have nothing of an operator in the cluster after its release is gone: no definition, namespace or webhook.

    + operator: which one
    + purge: also what may be somebody else's: a namespace with more in it, definitions of which objects exist

    The definitions of node feature discovery stay while the other operator is there.
    """
    remains = _remains(operator)
    if remains is None:
        host.noop("no API server answers: nothing is there")
        return
    releases = known(HelmReleases)
    other = find(releases or (), OTHER[operator.release].release, OTHER[operator.release].namespace)
    if other and not brings_nfd(other.values):
        host.log_styled(f"{other.name} is left without node feature discovery: run its deploy again", fg="yellow")
    kept = {} if purge else somebody_elses(remains)
    for what, why in kept.items():
        host.log_styled(f"{what} is kept: it holds {', '.join(why)}", fg="yellow")
    commands = list(_removal(operator, remains, kept))
    if not commands:
        host.noop(f"nothing of {operator.release} is left")
        return
    yield from commands
    yield FunctionCommand(_prove_absence, (operator, frozenset(kept)), {})


def _remains(operator: Operator) -> OperatorRemains | None:
    shared = any(
        release.chart in (NFD_CHART, OTHER[operator.release].release) and release.status != "uninstalled"
        for release in known(HelmReleases) or ()
    )
    groups = operator.groups if shared else (*operator.groups, NFD_GROUP)
    return known(OperatorRemnants, groups=groups, namespace=operator.namespace)


def somebody_elses(remains: OperatorRemains) -> dict[str, tuple[str, ...]]:
    """Given what is there, return what is not ours to remove: definition or "namespace" -> what it holds."""
    kept = {
        definition: foreign
        for definition, objects in remains.definitions.items()
        if definition not in NFD_OWN and (foreign := tuple(name for name in objects if name not in OWN_OBJECTS))
    }
    return {**kept, **({"namespace": remains.contents} if remains.contents else {})}


def _removal(operator: Operator, remains: OperatorRemains, kept: Mapping[str, object]) -> Iterator[StringCommand]:
    for webhook in remains.webhooks:
        yield _delete(*webhook.split("/", maxsplit=1))
    definitions = [name for name in remains.definitions if name not in kept]
    if definitions:
        yield _delete("crd", *definitions)
    if remains.namespace and "namespace" not in kept:
        yield _delete("namespace", operator.namespace)


def _delete(kind: str, *names: str) -> StringCommand:
    bound = f"timeout {DELETE_SECONDS + 15} {BINARY} kubectl delete --ignore-not-found --timeout={DELETE_SECONDS}s"
    return StringCommand(bound, kind, *map(QuoteString, names))


def _prove_absence(state: State, host: Host, operator: Operator, kept: frozenset[str]) -> bool:
    remains = _remains(operator)
    if remains is None:
        say(host, "SERVER_UNREACHABLE", f"the API server on {host.name} went away")
        return False
    left = [name for name in (*remains.definitions, *remains.webhooks) if name not in kept]
    if remains.namespace and "namespace" not in kept:
        left.append(f"namespace {operator.namespace}")
    if left:
        say(host, "OPERATOR_LEFTOVER", f"{operator.release} left {', '.join(left)}")
    return not left
