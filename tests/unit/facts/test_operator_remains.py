"""What an operator leaves behind, as kubectl tells it; and the helm binary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.helm import HelmBinary, HelmClient
from gb10.facts.operators import OperatorRemains, OperatorRemnants
from tests.unit.facts.reading import Printed, printed, process, run, shell_accepts, words

EMPTY: dict[str, Printed] = {
    "definitions": ([], 0),
    "namespace": ([], 0),
    "contents": ([], 0),
    "webhooks": ([json.dumps({"items": []})], 0),
    "place": (["gpu-operator"], 0),
    "release": (["gpu-operator"], 0),
}
FAILED: Printed = ([], 1)


def listed(*items: dict[str, Any]) -> Printed:
    return [json.dumps({"items": list(items)})], 0


def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **more.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, **more}


def of_release(name: str, namespace: str = "gpu-operator") -> dict[str, Any]:
    """The metadata that helm gives to what it makes."""
    owner = {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}
    return {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": owner}


def stored(release: str) -> dict[str, Any]:
    """The Secret in which helm keeps a release."""
    labels = {"owner": "helm", "name": release, "status": "deployed"}
    return item("Secret", f"sh.helm.release.v1.{release}.v1", type="helm.sh/release.v1", metadata={"labels": labels})


def run_with(kubectl: Path, answers: str) -> OperatorRemains | None:
    """What the fact makes of its own command, where kubectl is a shell script with these cases."""
    kubectl.write_text(f'#!/bin/sh\nshift 2\ncase "$*" in\n{answers}\nesac\n')
    kubectl.chmod(0o755)
    launch = OperatorRemnants().command(groups=("nvidia.com",), namespace="gpu-operator", release="gpu-operator")
    launch.text = launch.text.replace("/usr/local/bin/k3s", str(kubectl))
    return OperatorRemnants().process(run(launch))


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
            item("ServiceAccount", "default"),
            item("ConfigMap", "chart's", metadata=of_release("gpu-operator")),
            item("Job", "hook", metadata={"annotations": {"helm.sh/hook": "pre-upgrade"}}),
            item("Pod", "operand", metadata={"ownerReferences": [{"name": "daemonset"}]}),
            stored("gpu-operator"),
            item("ConfigMap", "mine"),
        ),
    )
    assert found.contents == ("ConfigMap/mine",)
    assert found.namespace


def test_another_release_in_the_namespace_is_somebody_elses() -> None:
    hook = {"annotations": {"helm.sh/hook": "test"}, "labels": {"app.kubernetes.io/instance": "grafana"}}
    found = read(
        namespace=(["namespace/gpu-operator"], 0),
        contents=listed(
            item("Deployment", "grafana", metadata=of_release("grafana")),
            item("Service", "namesake", metadata=of_release("gpu-operator", namespace="other")),
            item("Pod", "grafana-test", metadata=hook),
            item("ServiceAccount", "by-hand", metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
            stored("grafana"),
        ),
    )
    assert found.contents == (
        "Deployment/grafana",
        "Pod/grafana-test",
        "Secret/sh.helm.release.v1.grafana.v1",
        "Service/namesake",
        "ServiceAccount/by-hand",
    )


@pytest.mark.parametrize("part", ["namespace", "contents", "webhooks"])
def test_a_part_that_could_not_be_read_proves_no_absence(part: str) -> None:
    with pytest.raises(FactProcessError, match=part):
        OperatorRemnants().process(printed({**EMPTY, part: FAILED}))


def test_objects_that_could_not_be_listed_are_not_none(tmp_path: Path) -> None:
    answers = '"get crd"*) echo customresourcedefinition/x.nvidia.com;;\n"get x.nvidia.com"*) exit 1;;'
    with pytest.raises(FactProcessError, match="definitions"):
        run_with(tmp_path / "kubectl", answers)


def test_definitions_are_read_with_the_names_of_their_objects(tmp_path: Path) -> None:
    definitions = " ".join(f"customresourcedefinition.apiextensions.k8s.io/{x}.com" for x in ("x.nvidia", "z.other"))
    answers = (
        f'"get crd"*) echo {definitions};;\n"get x.nvidia.com"*) echo x.nvidia.com/one x.nvidia.com/two;;\n'
        """*webhook*) echo '{"items": []}';;"""
    )
    found = run_with(tmp_path / "kubectl", answers)
    assert found == OperatorRemains({"x.nvidia.com": ("one", "two")}, False, (), ())


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
    assert shell_accepts(
        OperatorRemnants().command(
            groups=("nvidia.com", "nfd.k8s-sigs.io"), namespace="gpu-operator", release="gpu-operator"
        )
    )
    assert shell_accepts(OperatorRemnants().command(groups=(), namespace="gpu-operator", release="gpu-operator"))
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
