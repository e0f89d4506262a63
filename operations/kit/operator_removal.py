"""What is left of an operator after its release is gone, and how it is removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pyinfra.api import Host, State, StringCommand
from pyinfra.api.command import QuoteString

from gb10.facts.helm import HelmReleases
from gb10.facts.operators import OperatorRemains, OperatorRemnants
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.k3s import BINARY
from gb10.facts.reading.operators import GPU, NETWORK, Operator
from gb10.operations.kit.discovery import rivals
from gb10.operations.kit.failures import UnreadFactError, known, say

NFD_GROUP = "nfd.k8s-sigs.io"
# Definitions whose objects node feature discovery makes by itself.
NFD_OWN = ("nodefeatures.nfd.k8s-sigs.io", "nodefeaturegroups.nfd.k8s-sigs.io")
# Objects that the charts and these deploys make; any other belongs to somebody else.
OWN_OBJECTS = frozenset({GPU.policy, NETWORK.policy, "nvidia-nics-rules", "nvidia-kernel-modules"})
DELETE_SECONDS = 120


def remains_of(operator: Operator) -> OperatorRemains | None:
    """Return what is there of an operator, or None if no API server answers."""
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

    If somebody installed its chart once more under another name, nothing is removed.
    """
    others = rivals(operator, releases)
    if any(rival.chart == operator.release for rival in others):
        return ()
    return operator.groups if others else (*operator.groups, NFD_GROUP)


def somebody_elses(remains: OperatorRemains) -> dict[str, tuple[str, ...]]:
    """Given what is there, return what is not ours to remove: definition or "namespace" -> what it holds."""
    kept = {
        definition: foreign
        for definition, objects in remains.definitions.items()
        if definition not in NFD_OWN and (foreign := tuple(name for name in objects if name not in OWN_OBJECTS))
    }
    return {**kept, **({"namespace": remains.contents} if remains.contents else {})}


def removal_commands(
    operator: Operator, remains: OperatorRemains, kept: Mapping[str, object]
) -> Iterator[StringCommand]:
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


def prove_absence(state: State, host: Host, operator: Operator, kept: frozenset[str]) -> bool:
    try:
        remains = remains_of(operator)
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
