"""NVIDIA's operators in the cluster: their policies, whether they are ready, and their end.

An operator is ready when its policy's state says so and every node offers the resource, not when some pod runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from pyinfra.api import FactBase, FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNodes, ManifestDrift
from gb10.facts.docker import DockerEngine
from gb10.facts.file import TextFile
from gb10.facts.helm import HelmReleases
from gb10.facts.helm_client import STATE
from gb10.facts.k3s import K3sInstall
from gb10.facts.operator_remains import OperatorRemains, OperatorRemnants
from gb10.facts.operators import ClusterPolicyState, NicClusterPolicyState
from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.helm import HelmRelease
from gb10.facts.reading.k3s import BINARY, KUBECTL
from gb10.facts.reading.rdma import ConnectX7
from gb10.facts.reading.readiness import GPU, NETWORK, Operator, lacking, own_policy
from gb10.group_data.settings import brings_nfd
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.charts import NFD_CHART, OPERATOR_CHARTS, find, merged, should_bring_nfd
from gb10.operations.kit.failures import UnreadFactError, guarded, known, refuse, say
from gb10.operations.kit.peers import peer_fact, reached
from gb10.operations.kit.reasons import why_waiting
from gb10.operations.kit.waiting import await_condition
from gb10.templates import render

Commands = Generator[StringCommand | FunctionCommand, None, None]

NFD_GROUP = "nfd.k8s-sigs.io"
# Definitions whose objects node feature discovery makes by itself.
NFD_OWN = ("nodefeatures.nfd.k8s-sigs.io", "nodefeaturegroups.nfd.k8s-sigs.io")
# Objects that the charts and these deploys make; any other belongs to somebody else.
OWN_OBJECTS = frozenset({"cluster-policy", "nic-cluster-policy", "nvidia-nics-rules", "nvidia-kernel-modules"})
NOT_VALIDATED = (
    "NVIDIA does not validate the GPU Operator on the Docker runtime: it runs without CDI, "
    "under the runtime class docker. k3s_runtime = 'containerd' is the validated one."
)
MANIFEST = f"{STATE}/nic-cluster-policy.yaml"
DELETE_SECONDS = 120


POLICY_FACTS: dict[str, type[FactBase[Any]]] = {
    GPU.release: ClusterPolicyState,
    NETWORK.release: NicClusterPolicyState,
}
OTHER = {GPU.release: NETWORK, NETWORK.release: GPU}


def with_nfd(
    operator: Operator, base: Mapping[str, Any], extra: Mapping[str, Any], releases: Sequence[HelmRelease]
) -> dict[str, Any]:
    """Given an operator's values, return them with node feature discovery on or off, and with `extra` over them.

    Both operators may be installed in one run: who takes it leaves a note for the other, which a dry run needs.
    """
    taken = host.data.get("gb10_nfd")
    brings = taken in (None, operator.release) and discovers(operator, releases)
    nfd = {**base.get("nfd", {}), "enabled": brings}
    values = merged({**base, "nfd": nfd}, extra)
    if brings_nfd(values):
        host.data.gb10_nfd = operator.release
    elif taken == operator.release:
        host.data.gb10_nfd = None
    return values


def discovers(operator: Operator, releases: Sequence[HelmRelease]) -> bool:
    """Given the releases of the cluster, tell whether an operator's release is to bring node feature discovery.

    Rivals are known by their chart: whoever installed them may have named them otherwise, and these never give way.
    """
    own, other = (find(releases, one.release, one.namespace) for one in (operator, OTHER[operator.release]))
    rivals = _rivals(operator, releases)
    stubborn = any(brings_nfd(rival.values) for rival in rivals if rival is not other)
    return should_bring_nfd(own, rivals, keeps_it=operator is NETWORK and not stubborn)


def _rivals(operator: Operator, releases: Sequence[HelmRelease]) -> list[HelmRelease]:
    """The releases that may bring node feature discovery, but for the operator's own."""
    own = (operator.release, operator.namespace)
    there = (release for release in releases if release.chart in (*OPERATOR_CHARTS, NFD_CHART))
    return [one for one in there if one.status != "uninstalled" and (one.name, one.namespace) != own]


def pods_runtime() -> str | None:
    """Return the container runtime of the cluster's pods, "docker" or "containerd"; None before there is a cluster."""
    found = {node.runtime.partition(":")[0] for node in known(ClusterNodes) or ()}
    return "docker" if "docker" in found else min(found, default=None)


@operation()
@guarded
def runtime_fits(nodes: Sequence[Host], runtime: Callable[[], str], provisions: bool) -> Commands:
    """
    Refuse where the GPU Operator cannot get ready: pods in Docker get a GPU only by the engine's default runtime.

    + nodes: the hosts of the cluster
    + runtime: tells the container runtime of the pods
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
    return lacking(operator, amount, known(POLICY_FACTS[operator.release]), known(ClusterNodes))


def links_by_host(nodes: Sequence[Host]) -> dict[str, ConnectX7 | None]:
    """Given hosts, return the ConnectX-7 of each, or None where it has none or cannot be reached."""
    return {node.name: peer_fact(node, RdmaLinks) for node in nodes}


def interfaces_up(links: Mapping[str, ConnectX7 | None]) -> list[str]:
    """Given the ConnectX-7 of each host, return the interfaces that are up on any of them, sorted."""
    return sorted({netdev for connectx in links.values() if connectx for netdev in connectx.up_netdevs})


@operation()
@guarded
def without_connectx7(nodes: Sequence[Host]) -> Commands:
    """
    Leave the Network Operator out where no node has a ConnectX-7, which a node that is away does not tell.

    + nodes: the hosts of the cluster
    """
    away = ", ".join(node.name for node in nodes if not reached(node))
    if away:
        yield from refuse("NODE_UNREACHABLE", f"{away} cannot be reached: nobody knows of a ConnectX-7 there")
        return
    names = ", ".join(node.name for node in nodes)
    host.log_styled(f"No ConnectX-7 on {names}: the Network Operator is left out.", fg="yellow")
    host.noop("no ConnectX-7 is here")


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
    if own_policy(operator, known(POLICY_FACTS[operator.release]) or ()) is None:
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
    releases, remains = known(HelmReleases, charts=OPERATOR_CHARTS), _remains(operator)
    if remains is None:
        if known(K3sInstall) is None:
            host.noop("there is no K3s, and nothing in it")
        else:
            yield from refuse("SERVER_UNREACHABLE", f"no API server answers on {host.name}: nobody knows what is left")
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
    yield FunctionCommand(_prove_absence, (operator, frozenset(kept)), {})


def left_without_nfd(operator: Operator, releases: Sequence[HelmRelease]) -> list[str]:
    """Given an operator that is gone, name the releases of the other that have no node feature discovery any more."""
    rivals = _rivals(operator, releases)
    if any(rival.chart == NFD_CHART or brings_nfd(rival.values) for rival in rivals):
        return []
    return [rival.name for rival in rivals]


def _remains(operator: Operator) -> OperatorRemains | None:
    """What is there of an operator; None where no API server answers."""
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
    """Given an operator that is gone, return the API groups that no other release needs.

    Its chart may be there once more, under a name that somebody else gave it: then nothing is to be removed.
    """
    rivals = _rivals(operator, releases)
    if any(rival.chart == operator.release for rival in rivals):
        return ()
    return operator.groups if rivals else (*operator.groups, NFD_GROUP)


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
    try:
        remains = _remains(operator)
    except UnreadFactError as error:
        say(host, "FACT_UNREADABLE", f"{host.name}: {error} could not be read, so nobody knows what is left")
        return False
    if remains is None:
        say(host, "SERVER_UNREACHABLE", f"the API server on {host.name} went away")
        return False
    left = [name for name in (*remains.definitions, *remains.webhooks) if name not in kept]
    if remains.namespace and "namespace" not in kept:
        left.append(f"namespace {operator.namespace}")
    if left:
        say(host, "OPERATOR_LEFTOVER", f"{operator.release} left {', '.join(left)}")
    return not left
