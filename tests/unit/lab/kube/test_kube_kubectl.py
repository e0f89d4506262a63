"""The real kubectl works on the stand-in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.lab.kube.kube_machines import Server, eventually


def deployment(name: str, replicas: int, **template_meta: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, **template_meta},
                "spec": {"containers": [{"name": "c", "image": "nginx"}], "volumes": [{"name": "e", "emptyDir": {}}]},
            },
        },
    }


def budget(name: str, at_least: int) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"minAvailable": at_least, "selector": {"matchLabels": {"app": name}}},
    }


def definition(plural: str, kind: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.demo.example"},
        "spec": {
            "group": "demo.example",
            "scope": "Cluster",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [version],
        },
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


def test_nodes_are_listed_with_their_roles_and_runtime(cluster: Server) -> None:
    lines = cluster.kubectl("get", "nodes", "-o", "wide").splitlines()
    assert lines[0].split()[:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert lines[1].split()[:3] == ["gpu-0", "Ready", "<none>"]
    assert lines[2].split()[:3] == ["spark-1", "Ready", "control-plane"]
    assert lines[2].endswith("containerd://2.1.5-k3s1")


def test_a_second_apply_changes_nothing(cluster: Server) -> None:
    assert "created" in cluster.apply(deployment("twice", 1))
    generation = cluster.get("deployment", "twice")["metadata"]["generation"]
    assert "unchanged" in cluster.apply(deployment("twice", 1))
    assert cluster.get("deployment", "twice")["metadata"]["generation"] == generation


def test_a_server_side_dry_run_writes_nothing(cluster: Server) -> None:
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(config_map("dry", a="b")))
    assert "NotFound" in cluster.refused("get", "configmap", "dry")
    cluster.apply(config_map("dry", a="b"))
    cluster.kubectl("delete", "configmap", "dry", "--dry-run=server")
    assert cluster.get("configmap", "dry")["data"] == {"a": "b"}


def test_server_side_apply_conflicts_with_anothers_edit(cluster: Server) -> None:
    wanted = json.dumps(config_map("shared", a="1"))
    cluster.kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=wanted)
    cluster.kubectl("patch", "configmap", "shared", "--type=merge", "-p", '{"data": {"a": "2"}}')
    again = ("apply", "--server-side", "--field-manager=one", "-f", "-")
    assert "conflict with" in cluster.refused(*again, stdin=wanted)
    cluster.kubectl(*again, "--force-conflicts", stdin=wanted)
    assert cluster.get("configmap", "shared")["data"] == {"a": "1"}


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("json", '[{"op": "replace", "path": "/data/a", "value": "2"}]'),
        ("merge", '{"data": {"a": "2"}}'),
        ("strategic", '{"data": {"a": "2"}}'),
    ],
)
def test_every_kind_of_patch_works(cluster: Server, kind: str, patch: str) -> None:
    cluster.apply(config_map(f"patched-{kind}", a="1"))
    cluster.kubectl("patch", "configmap", f"patched-{kind}", f"--type={kind}", "-p", patch)
    assert cluster.get("configmap", f"patched-{kind}")["data"] == {"a": "2"}


def test_a_mistyped_field_is_refused(cluster: Server) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "t"}, "dataa": {"a": "b"}}
    assert 'unknown field "dataa"' in cluster.refused("apply", "-f", "-", stdin=json.dumps(wrong))


def test_secrets_can_be_created_from_the_command_line(cluster: Server) -> None:
    cluster.kubectl("create", "secret", "generic", "typed", "--from-literal=a=b")
    assert cluster.get("secret", "typed")["data"] == {"a": "Yg=="}
    cluster.kubectl("delete", "secret", "typed")
    assert "NotFound" in cluster.refused("get", "secret", "typed")


def test_labels_select_objects_and_can_be_removed(cluster: Server) -> None:
    cluster.kubectl("label", "node", "gpu-0", "nvidia.com/gpu.present=true")
    found = cluster.kubectl("get", "nodes", "-l", "nvidia.com/gpu.present=true", "-o", "name")
    assert found.split() == ["node/gpu-0"]
    cluster.kubectl("label", "node", "gpu-0", "nvidia.com/gpu.present-")
    assert cluster.kubectl("get", "nodes", "-l", "nvidia.com/gpu.present", "-o", "name") == ""


def test_a_custom_kind_exists_only_with_its_definition(cluster: Server) -> None:
    policy = {"apiVersion": "demo.example/v1", "kind": "Policy", "metadata": {"name": "p"}, "spec": {"on": True}}
    assert "ensure CRDs are installed first" in cluster.refused("apply", "-f", "-", stdin=json.dumps(policy))
    cluster.apply(definition("policies", "Policy"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/policies.demo.example", "--timeout=5s")
    cluster.apply(policy)
    cluster.kubectl(
        "patch", "policy", "p", "--subresource=status", "--type=merge", "-p", '{"status": {"state": "ready"}}'
    )
    kept = cluster.get("policy", "p")
    assert (kept["spec"], kept["status"]) == ({"on": True}, {"state": "ready"})
    cluster.kubectl("delete", "crd", "policies.demo.example")
    assert "could not find the requested resource" in cluster.refused("get", "policies")


def test_a_rollout_replaces_the_pods(cluster: Server) -> None:
    cluster.apply(deployment("rolled", 2))
    cluster.kubectl("rollout", "status", "deployment/rolled", "--timeout=15s")
    before = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-l", "app=rolled")["items"]}
    cluster.kubectl("set", "image", "deployment/rolled", "c=nginx:2")
    cluster.kubectl("rollout", "status", "deployment/rolled", "--timeout=15s")
    after = eventually(lambda: _uids(cluster, "rolled", 2))
    assert not before & after


def _uids(cluster: Server, app: str, count: int) -> set[str] | None:
    found = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-l", f"app={app}")["items"]}
    return found if len(found) == count else None


def test_a_held_pod_is_never_ready(cluster: Server) -> None:
    cluster.apply(deployment("held", 1, annotations={"gb10.lab/hold": "1"}))
    assert "timed out" in cluster.refused("rollout", "status", "deployment/held", "--timeout=1s")


def test_drain_moves_pods_and_cordoned_nodes_take_none(cluster: Server) -> None:
    cluster.apply(deployment("moved", 2))
    cluster.kubectl("rollout", "status", "deployment/moved", "--timeout=15s")
    try:
        done = cluster.kubectl(
            "drain",
            "gpu-0",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=20s",
            "--pod-selector=app=moved",
        )
        assert "evicted" in done
        assert cluster.get("node", "gpu-0")["spec"]["unschedulable"] is True
        cluster.kubectl("rollout", "status", "deployment/moved", "--timeout=15s")
        pods = cluster.get("pods", "-l", "app=moved")["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == {"spark-1"}
    finally:
        cluster.kubectl("uncordon", "gpu-0")


def test_drain_fails_if_a_budget_forbids_it(cluster: Server) -> None:
    cluster.apply(deployment("guarded", 2), budget("guarded", 2))
    cluster.kubectl("rollout", "status", "deployment/guarded", "--timeout=15s")
    try:
        why = cluster.refused(
            "drain",
            "gpu-0",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=2s",
            "--pod-selector=app=guarded",
        )
        assert "disruption budget" in why
    finally:
        cluster.kubectl("uncordon", "gpu-0")
        cluster.kubectl("delete", "pdb,deployment", "guarded")


def test_a_daemonset_has_a_pod_on_every_matching_node(cluster: Server) -> None:
    daemonset = {**deployment("everywhere", 1), "kind": "DaemonSet"}
    daemonset["spec"].pop("replicas")
    cluster.apply(daemonset)
    cluster.kubectl("rollout", "status", "daemonset/everywhere", "--timeout=15s")
    pods = cluster.get("pods", "-l", "app=everywhere")["items"]
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == ["gpu-0", "spark-1"]


def test_jobs_complete_unless_an_annotation_fails_them(cluster: Server) -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
    for name, notes in (("good", {}), ("bad", {"gb10.lab/fail": "1"})):
        meta = {"name": name, "annotations": notes}
        cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec})
    cluster.kubectl("wait", "--for=condition=Complete", "job/good", "--timeout=10s")
    cluster.kubectl("wait", "--for=condition=Failed", "job/bad", "--timeout=10s")


def test_a_namespace_is_deleted_with_its_contents(cluster: Server) -> None:
    cluster.kubectl("create", "namespace", "passing")
    cluster.kubectl("create", "configmap", "c", "-n", "passing", "--from-literal=a=b")
    cluster.kubectl("delete", "namespace", "passing", "--timeout=5s")
    assert "NotFound" in cluster.refused("get", "configmap", "c", "-n", "passing")


def test_the_handler_of_a_runtime_class_is_immutable(cluster: Server) -> None:
    body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "mine"}, "handler": "a"}
    cluster.apply(body)
    assert "immutable" in cluster.refused("apply", "-f", "-", stdin=json.dumps({**body, "handler": "b"}))


def test_a_fault_in_the_file_reaches_kubectl(cluster: Server) -> None:
    path = cluster.root / "run/gb10-lab/kube-faults.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"faults": [{"method": "GET", "path": "/configmaps", "code": 500}]}))
    try:
        assert "injected fault" in cluster.refused("get", "configmaps")
    finally:
        path.unlink()
    cluster.kubectl("get", "configmaps")
