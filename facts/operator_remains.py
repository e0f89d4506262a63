"""What an operator leaves in a cluster when its release is gone: definitions, a namespace, webhooks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.k3s import KUBECTL
from gb10.facts.sections import Section, read_sections, sections, understood
from gb10.facts.values import FactValue

WEBHOOKS = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
KINDS = "configmaps,secrets,persistentvolumeclaims,deployments,daemonsets,statefulsets,jobs,pods"
# What Kubernetes itself puts into every namespace.
AMBIENT = ("ConfigMap/kube-root-ca.crt",)


@dataclass(frozen=True)
class OperatorRemains(FactValue):
    """What is there of an operator."""

    definitions: dict[str, tuple[str, ...]]  # CustomResourceDefinition -> names of its objects
    namespace: bool
    contents: tuple[str, ...]  # "ConfigMap/mine": what in the namespace belongs to no other object and to no release
    webhooks: tuple[str, ...]  # "validatingwebhookconfiguration/name"

    @property
    def is_empty(self) -> bool:
        return not (self.definitions or self.namespace or self.webhooks)


class OperatorRemnants(FactBase[OperatorRemains | None]):
    """What is there of an operator whose objects are of some API groups and live in a namespace.

    None where no API server answers on this host. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, groups: Sequence[str], namespace: str) -> StringCommand:
        wanted = "|".join(groups)
        place = shlex.quote(namespace)
        return sections(
            {
                "definitions": f"all=$({KUBECTL} get crd -o name) || exit 1; for crd in $all; do crd=${{crd#*/}}; "
                f'case ${{crd#*.}} in {wanted}) echo "$crd"; '
                f"""{KUBECTL} get "$crd" -A --ignore-not-found -o name | sed 's,^[^/]*/, ,';; esac; done; true""",
                "namespace": f"{KUBECTL} get namespace {place} --ignore-not-found -o name",
                "contents": f"{KUBECTL} -n {place} get {KINDS} --ignore-not-found -o json",
                "webhooks": f"{KUBECTL} get {WEBHOOKS} -o json",
                "place": f"echo {place}",
            }
        )

    @understood
    def process(self, output: list[str]) -> OperatorRemains | None:
        found = read_sections(output)
        if found["definitions"].status != 0:
            return None
        return OperatorRemains(
            definitions=_definitions(found["definitions"].lines),
            namespace=bool(found["namespace"].first),
            contents=tuple(sorted(_contents(found["contents"]))),
            webhooks=tuple(sorted(_webhooks(found["webhooks"], found["place"].text))),
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
    if section.status != 0 or not section.text.strip():
        return []
    items: list[dict[str, Any]] = json.loads(section.text)["items"]
    return items


def _contents(section: Section) -> list[str]:
    names = (
        f"{item['kind']}/{item['metadata']['name']}"
        for item in _items(section)
        if not item["metadata"].get("ownerReferences")
        and (item["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") != "Helm"
        and item.get("type") not in ("helm.sh/release.v1", "kubernetes.io/service-account-token")
    )
    return [name for name in names if name not in AMBIENT]


def _webhooks(section: Section, namespace: str) -> list[str]:
    return [
        f"{item['kind'].lower()}/{item['metadata']['name']}"
        for item in _items(section)
        if any(
            (webhook["clientConfig"].get("service") or {}).get("namespace") == namespace
            for webhook in item.get("webhooks") or []
        )
    ]
