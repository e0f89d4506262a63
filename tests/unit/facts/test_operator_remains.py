"""What an operator leaves behind, as kubectl tells it; and the helm binary."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import Printed, printed, process, shell_accepts, words

from gb10.facts.helm_client import HelmBinary, HelmClient
from gb10.facts.operator_remains import OperatorRemains, OperatorRemnants

EMPTY: dict[str, Printed] = {
    "definitions": ([], 0),
    "namespace": ([], 0),
    "contents": ([], 0),
    "webhooks": ([json.dumps({"items": []})], 0),
    "place": (["gpu-operator"], 0),
}


def listed(*items: dict[str, Any]) -> Printed:
    return [json.dumps({"items": list(items)})], 0


def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **more.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, **more}


def read(**sections: Printed) -> OperatorRemains:
    found = OperatorRemnants().process(printed({**EMPTY, **sections}))
    assert found is not None
    return found


def test_a_cluster_that_never_had_the_operator_has_nothing_of_it() -> None:
    assert read().is_empty


def test_definitions_are_told_with_their_objects() -> None:
    lines = ["clusterpolicies.nvidia.com", " cluster-policy", "nvidiadrivers.nvidia.com"]
    found = read(definitions=(lines, 0))
    assert found.definitions == {"clusterpolicies.nvidia.com": ("cluster-policy",), "nvidiadrivers.nvidia.com": ()}
    assert not found.is_empty


def test_what_belongs_to_a_release_an_owner_or_kubernetes_is_nobody_elses() -> None:
    found = read(
        namespace=(["namespace/gpu-operator"], 0),
        contents=listed(
            item("ConfigMap", "kube-root-ca.crt"),
            item("ConfigMap", "chart's", metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
            item("Pod", "operand", metadata={"ownerReferences": [{"name": "daemonset"}]}),
            item("Secret", "sh.helm.release.v1.gpu-operator.v1", type="helm.sh/release.v1"),
            item("ConfigMap", "mine"),
        ),
    )
    assert found.contents == ("ConfigMap/mine",)
    assert found.namespace


def test_only_webhooks_that_lead_into_the_namespace_are_the_operators() -> None:
    ours = {"clientConfig": {"service": {"namespace": "gpu-operator", "name": "webhook"}}}
    others = {"clientConfig": {"service": {"namespace": "other", "name": "webhook"}}}
    by_url = {"clientConfig": {"url": "https://example"}}
    kind = "ValidatingWebhookConfiguration"
    found = read(webhooks=listed(item(kind, "ours", webhooks=[by_url, ours]), item(kind, "others", webhooks=[others])))
    assert found.webhooks == ("validatingwebhookconfiguration/ours",)


def test_an_api_server_that_does_not_answer_tells_nothing() -> None:
    assert OperatorRemnants().process(printed({**EMPTY, "definitions": ([], 1)})) is None


@given(st.lists(words, max_size=4), st.lists(words, max_size=4), st.lists(words, max_size=4))
def test_garbage_is_an_error_of_the_host_and_never_a_crash(one: list[str], two: list[str], three: list[str]) -> None:
    sections = {**EMPTY, "definitions": (one, 0), "contents": (two, 0), "webhooks": (three, 0)}
    process(OperatorRemnants(), printed(sections))


def test_the_commands_are_posix_shell() -> None:
    assert shell_accepts(OperatorRemnants().command(groups=("nvidia.com", "nfd.k8s-sigs.io"), namespace="gpu-operator"))
    assert shell_accepts(HelmClient().command())


@pytest.mark.parametrize(
    ("version", "busy", "found"),
    [
        ((["v4.3.1"], 0), ([], 1), HelmBinary("v4.3.1", busy=False)),
        (([], 127), ([], 1), HelmBinary(None, busy=False)),
        ((["v4.3.1"], 0), ([], 0), HelmBinary("v4.3.1", busy=True)),
    ],
)
def test_helm_tells_its_version_and_whether_it_is_at_work(version: Printed, busy: Printed, found: HelmBinary) -> None:
    assert HelmClient().process(printed({"version": version, "busy": busy})) == found
