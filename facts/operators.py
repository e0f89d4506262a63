"""NVIDIA's operators, as the API server on a head node describes them, and their remains after an uninstall.

An operator is ready when its policy's state says so and every node shows the allocatable resource (`ClusterNodes`),
not when some pod runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gb10.facts.reading.cluster import read_items
from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.operators import (
    GPU_NAMESPACE,
    NETWORK_NAMESPACE,
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
    WarningEvent,
    read_events,
    read_pods,
)
from gb10.facts.reading.values import FactValue, Section, Sections

Policy = TypeVar("Policy", ClusterPolicy, NicClusterPolicy)


class OperatorPods(SectionsFact[tuple[OperatorPod, ...] | None]):
    """Pods of a namespace by name; None where no API server answers on this host."""

    def command(self, namespace: str) -> Launch:
        return self.sections({"pods": f"{KUBECTL} -n {shlex.quote(namespace)} get pods -o json"})

    def read_sections(self, found: Sections) -> tuple[OperatorPod, ...] | None:
        items = read_items(found["pods"])
        return None if items is None else read_pods(items)


class GpuOperatorPods(OperatorPods):
    """Pods of the GPU Operator; None where no API server answers on this host."""

    def command(self, namespace: str = GPU_NAMESPACE) -> Launch:
        return super().command(namespace)


class NetworkOperatorPods(OperatorPods):
    """Pods of the Network Operator; None where no API server answers on this host."""

    def command(self, namespace: str = NETWORK_NAMESPACE) -> Launch:
        return super().command(namespace)


class OperatorWarnings(SectionsFact[tuple[WarningEvent, ...] | None]):
    """Warning events of a namespace, oldest first; None where no API server answers on this host.

    Why a pod's sandbox cannot be made (a missing runtime, say) stands nowhere else.
    """

    def command(self, namespace: str) -> Launch:
        select = "--field-selector type=Warning"
        return self.sections({"events": f"{KUBECTL} -n {shlex.quote(namespace)} get events {select} -o json"})

    def read_sections(self, found: Sections) -> tuple[WarningEvent, ...] | None:
        items = read_items(found["events"])
        return None if items is None else read_events(items)


class _PolicyState(SectionsFact[tuple[Policy, ...] | None], Generic[Policy]):
    """Policies of one kind: none where its operator is not installed; None where no API server answers."""

    resource: str
    policy: type[Policy]

    def command(self) -> Launch:
        # A resource that nobody defined and a server that does not answer both end with status 1: the definition tells
        # them apart.
        return self.sections(
            {
                "definition": f"{KUBECTL} get crd {self.resource} --ignore-not-found -o name",
                "policies": f"{KUBECTL} get {self.resource} -o json",
            }
        )

    def read_sections(self, found: Sections) -> tuple[Policy, ...] | None:
        if found["definition"].status != 0:
            return None
        if not found["definition"].text.strip():
            return ()
        items = read_items(found["policies"])
        return None if items is None else tuple(map(self.policy.read, items))


class ClusterPolicyState(_PolicyState[ClusterPolicy]):
    """Policies of the GPU Operator, none where it is not installed; None where no API server answers on this host."""

    resource, policy = "clusterpolicies.nvidia.com", ClusterPolicy


class NicClusterPolicyState(_PolicyState[NicClusterPolicy]):
    """Policies of the Network Operator, none if it is not installed; None where no API server answers on this host."""

    resource, policy = "nicclusterpolicies.mellanox.com", NicClusterPolicy


WEBHOOKS = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
KINDS = (
    "configmaps,secrets,persistentvolumeclaims,serviceaccounts,services,deployments,daemonsets,statefulsets,jobs,cronjobs,"
    "pods,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io"
)
# What Kubernetes itself puts into every namespace.
AMBIENT = ("ConfigMap/kube-root-ca.crt", "ServiceAccount/default")
ACCOUNTS = "kubernetes.io/service-account-token"  # the type of a Secret that Kubernetes makes
NO_API, NOT_READ = 1, 3


@dataclass(frozen=True)
class OperatorRemains(FactValue):
    """Objects of an operator."""

    definitions: dict[str, tuple[str, ...]]  # CustomResourceDefinition -> names of its objects
    namespace: bool
    contents: tuple[str, ...]  # "ConfigMap/mine": what in the namespace belongs to no other object and to no release
    webhooks: tuple[str, ...]  # "validatingwebhookconfiguration/name"

    @property
    def is_empty(self) -> bool:
        return not (self.definitions or self.namespace or self.webhooks)


class OperatorRemnants(SectionsFact[OperatorRemains | None]):
    """Objects of an operator, by its API groups, its namespace and its release.

    None where no API server answers on this host. Fails for a host on which a part could not be read: what is not known
    is not absent.
    """

    def command(self, groups: Sequence[str], namespace: str, release: str) -> Launch:
        wanted = "|".join(groups) or "''"
        place = shlex.quote(namespace)
        return self.sections(
            {
                "definitions": f"all=$({KUBECTL} get crd -o name) || exit {NO_API}; "
                f'for crd in $all; do crd=${{crd#*/}}; case ${{crd#*.}} in {wanted}) echo "$crd"; '
                f'objects=$({KUBECTL} get "$crd" -A --ignore-not-found -o name) || exit {NOT_READ}; '
                """for object in $objects; do echo " ${object#*/}"; done;; esac; done""",
                "namespace": f"{KUBECTL} get namespace {place} --ignore-not-found -o name",
                "contents": f"{KUBECTL} -n {place} get {KINDS} --ignore-not-found -o json",
                "webhooks": f"{KUBECTL} get {WEBHOOKS} -o json",
                "place": f"echo {place}",
                "release": f"echo {shlex.quote(release)}",
            }
        )

    def read_sections(self, found: Sections) -> OperatorRemains | None:
        if found["definitions"].status == NO_API:
            return None
        if failed := [name for name, section in found.items() if section.status != 0]:
            raise ValueError(f"the cluster does not tell its {' and '.join(failed)}")
        place, release = found["place"].text, found["release"].text
        return OperatorRemains(
            definitions=_definitions(found["definitions"].lines),
            namespace=bool(found["namespace"].text.strip()),
            contents=tuple(sorted(_contents(found["contents"], place, release))),
            webhooks=tuple(sorted(_webhooks(found["webhooks"], place))),
        )


def _definitions(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    definitions: dict[str, tuple[str, ...]] = {}
    current = ""
    for line in filter(str.strip, lines):
        if line.startswith(" "):
            definitions[current] += (line.strip(),)
        else:
            current = line
            definitions[current] = ()
    return definitions


def _items(section: Section) -> list[dict[str, Any]]:
    # kubectl prints nothing where it finds nothing and runs with --ignore-not-found
    return (read_items(section) or []) if section.text.strip() else []


def _contents(section: Section, namespace: str, release: str) -> list[str]:
    names = (
        f"{item['kind']}/{item['metadata']['name']}"
        for item in _items(section)
        if not item["metadata"].get("ownerReferences")
        and item.get("type") != ACCOUNTS
        and not _of_release(item, namespace, release)
    )
    return [name for name in names if name not in AMBIENT]


def _of_release(item: dict[str, Any], namespace: str, release: str) -> bool:
    """Return True if helm made an object for a release, or keeps the release in it.

    "Managed by Helm" says too little: another release may live in the namespace. helm annotates all that it makes but
    hooks, which often name no release; those of another one are not alone, its Secret lies beside them.
    """
    labels, notes = (item["metadata"].get(key) or {} for key in ("labels", "annotations"))
    if item.get("type") == "helm.sh/release.v1":
        return bool(labels.get("name") == release)
    if "helm.sh/hook" in notes:
        return bool(labels.get("app.kubernetes.io/instance", release) == release)
    owner = (notes.get("meta.helm.sh/release-name"), notes.get("meta.helm.sh/release-namespace", namespace))
    return owner == (release, namespace)


def _webhooks(section: Section, namespace: str) -> list[str]:
    return [
        f"{item['kind'].lower()}/{item['metadata']['name']}"
        for item in _items(section)
        if any(
            (webhook["clientConfig"].get("service") or {}).get("namespace") == namespace
            for webhook in item.get("webhooks") or []
        )
    ]
