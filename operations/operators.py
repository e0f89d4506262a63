"""NVIDIA's operators in the cluster: their policies, their readiness and their removal.

An operator is ready when its policy's state says so and every node offers the resource, not when some pod runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNodes, ManifestDrift
from gb10.facts.docker import DockerEngine
from gb10.facts.file import TextFile
from gb10.facts.helm import STATE, HelmReleases
from gb10.facts.k3s import K3sInstall
from gb10.facts.operators import ClusterPolicyState, NicClusterPolicyState, OperatorRemains, OperatorRemnants
from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.k3s import BINARY, KUBECTL
from gb10.facts.reading.operators import GPU, NETWORK, Operator, lacking, own_policy
from gb10.facts.reading.rdma import ConnectX7
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.helm import OPERATOR_CHARTS, left_without_nfd, rivals, why_waiting
from gb10.operations.kit.operation import Commands, await_condition, known, operation, refuse
from gb10.operations.kit.peers import peer_fact, reached
from gb10.programs.answer import RefusedError
from gb10.templates import render

NOT_VALIDATED = (
    "NVIDIA does not validate the GPU Operator on the Docker runtime: it runs without CDI, "
    "under the runtime class docker. k3s_runtime = 'containerd' is the validated one."
)
MANIFEST = f"{STATE}/nic-cluster-policy.yaml"
NFD_GROUP = "nfd.k8s-sigs.io"
# Definitions whose objects node feature discovery makes by itself.
NFD_OWN = ("nodefeatures.nfd.k8s-sigs.io", "nodefeaturegroups.nfd.k8s-sigs.io")
# Objects that the charts and these deploys make; any other belongs to somebody else.
OWN_OBJECTS = frozenset({GPU.policy, NETWORK.policy, "nvidia-nics-rules", "nvidia-kernel-modules"})
DELETE_SECONDS = 120
POLICY_FACTS: dict[str, type[FactBase[Any]]] = {
    GPU.release: ClusterPolicyState,
    NETWORK.release: NicClusterPolicyState,
}


def pods_runtime() -> str | None:
    """Return the container runtime of the cluster's pods, "docker" or "containerd"; None before there is a cluster."""
    found = {node.runtime.partition(":")[0] for node in known(ClusterNodes) or ()}
    return "docker" if "docker" in found else min(found, default=None)


@operation()
def runtime_fits(nodes: Sequence[Host], runtime: Callable[[], str], provisions: bool) -> Commands:
    """
    Refuse if the GPU Operator cannot become ready: pods in Docker get a GPU only by the engine's default runtime.

    + runtime: returns the container runtime of the pods
    + provisions: this run sets the default runtime before, so that a dry run need not foresee a refusal
    """
    on_docker = runtime() == "docker"
    if on_docker:
        host.log_styled(NOT_VALIDATED, fg="yellow")
    engines = {node: peer_fact(node, DockerEngine) for node in nodes} if on_docker else {}
    wrong = [node.name for node, engine in engines.items() if engine and engine.default_runtime != "nvidia"]
    if wrong and (state.is_executing or not provisions):
        yield from refuse("DOCKER_RUNTIME", f"Docker's default runtime on {', '.join(wrong)} is not nvidia")
    else:
        host.noop("pods can have a GPU")


@operation()
def ready(operator: Operator, amount: int, seconds: int) -> Commands:
    """
    Wait until an operator is ready: its policy says so, and every node offers this amount of its resource.

    Waiting changes nothing, so a dry run does not list it.
    """
    if not state.is_executing or await_condition(lambda: not _lacking(operator, amount), seconds):
        host.noop(f"{operator.kind} {operator.policy} is ready")
        return
    reasons = [*_lacking(operator, amount), *why_waiting(operator.namespace)]
    yield from refuse("OPERATOR_NOT_READY", f"{operator.release} after {seconds} s: {'; '.join(reasons)}")


def _lacking(operator: Operator, amount: int) -> list[str]:
    return lacking(operator, amount, known(POLICY_FACTS[operator.release]), known(ClusterNodes))


def links_by_host(nodes: Sequence[Host]) -> dict[str, ConnectX7 | None]:
    """Return the ConnectX-7 of each host, or None if it has none or cannot be reached."""
    return {node.name: peer_fact(node, RdmaLinks) for node in nodes}


def interfaces_up(links: Mapping[str, ConnectX7 | None]) -> list[str]:
    """Return the interfaces that are up on any of the hosts, sorted."""
    return sorted({netdev for connectx in links.values() if connectx for netdev in connectx.up_netdevs})


@operation()
def without_connectx7(nodes: Sequence[Host]) -> Commands:
    """Leave the Network Operator out: no node has a ConnectX-7. Refused if a node cannot be reached."""
    away = ", ".join(node.name for node in nodes if not reached(node))
    if away:
        yield from refuse("NODE_UNREACHABLE", f"{away} cannot be reached, and may have a ConnectX-7")
        return
    names = ", ".join(node.name for node in nodes)
    host.log_styled(f"No ConnectX-7 on {names}: the Network Operator is left out.", fg="yellow")
    host.noop("no ConnectX-7 is here")


@operation()
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
        show_diff(MANIFEST, known(TextFile, path=MANIFEST), manifest)
    yield replace_file(MANIFEST, manifest, "644")
    yield StringCommand(f"{KUBECTL} apply -f", MANIFEST)


@operation()
def no_policy(operator: Operator) -> Commands:
    """Remove an operator's policy while the operator still runs and can clean up after it."""
    if own_policy(operator, known(POLICY_FACTS[operator.release]) or ()) is None:
        host.noop(f"there is no {operator.kind} {operator.policy}")
        return
    yield delete_command(operator.kind.lower(), operator.policy)
    yield StringCommand("rm -f", MANIFEST)


@operation()
def removed(operator: Operator, purge: bool = False) -> Commands:
    """
    Remove what an operator leaves in the cluster after its release is gone: definitions, namespace, webhooks.

    + purge: also what may belong to others: a namespace with other content, definitions with objects of others

    The definitions of node feature discovery stay while the other operator is there.
    """
    releases, remains = known(HelmReleases, charts=OPERATOR_CHARTS), remains_of(operator)
    if remains is None:
        if known(K3sInstall):
            raise RefusedError("SERVER_UNREACHABLE", f"no API server on {host.name} answers and shows what is left")
        host.noop("there is no K3s")
        return
    for name in left_without_nfd(operator, releases or ()):
        host.log_styled(f"{name} is left without node feature discovery: run its deploy again", fg="yellow")
    kept = {} if purge else somebody_elses(remains)
    for what, why in kept.items():
        host.log_styled(f"{what} is kept: it holds {', '.join(why)}", fg="yellow")
    commands = list(_removal(operator, remains, kept))
    if not commands:
        host.noop(f"nothing of {operator.release} is left")
        return
    yield from commands
    remains = remains_of(operator)
    if remains is None:
        raise RefusedError("SERVER_UNREACHABLE", f"the API server on {host.name} went away")
    left = [name for name in (*remains.definitions, *remains.webhooks) if name not in kept]
    if remains.namespace and "namespace" not in kept:
        left.append(f"namespace {operator.namespace}")
    if left:
        raise RefusedError("OPERATOR_LEFTOVER", f"{operator.release} left {', '.join(left)}")


def remains_of(operator: Operator) -> OperatorRemains | None:
    """Return what the cluster holds of an operator, or None if no API server answers."""
    releases = known(HelmReleases)
    if releases is None:
        return None
    return known(
        OperatorRemnants,
        groups=groups_to_remove(operator, releases),
        namespace=operator.namespace,
        release=operator.release,
    )


def groups_to_remove(operator: Operator, releases: Sequence[HelmRelease]) -> tuple[str, ...]:
    """Return the API groups of an operator that no other release needs: none if its chart has another release."""
    others = rivals(operator, releases)
    if any(rival.chart == operator.release for rival in others):
        return ()
    return operator.groups if others else (*operator.groups, NFD_GROUP)


def somebody_elses(remains: OperatorRemains) -> dict[str, tuple[str, ...]]:
    """Return what belongs to others and stays: definition or "namespace" -> what it holds."""
    kept = {
        definition: foreign
        for definition, objects in remains.definitions.items()
        if definition not in NFD_OWN and (foreign := tuple(name for name in objects if name not in OWN_OBJECTS))
    }
    return {**kept, **({"namespace": remains.contents} if remains.contents else {})}


def _removal(operator: Operator, remains: OperatorRemains, kept: Mapping[str, object]) -> Iterator[StringCommand]:
    for webhook in remains.webhooks:
        yield delete_command(*webhook.split("/", maxsplit=1))
    definitions = [name for name in remains.definitions if name not in kept]
    if definitions:
        yield delete_command("crd", *definitions)
    if remains.namespace and "namespace" not in kept:
        yield delete_command("namespace", operator.namespace)


def delete_command(kind: str, *names: str) -> StringCommand:
    bound = f"timeout {DELETE_SECONDS + 15} {BINARY} kubectl delete --ignore-not-found --timeout={DELETE_SECONDS}s"
    return StringCommand(bound, kind, *map(QuoteString, names))
