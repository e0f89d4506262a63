"""Operations for Kubernetes objects on the head, and the kubeconfig on the controller."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from gb10.lab.clients import kubectl
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ours, namespace: default}\ndata: {it's: kept}\n"
# A pod on the worker. It belongs to a Deployment, because a drain evicts no pod that nothing would create again.
PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: traveller, namespace: kube-system}
spec:
  replicas: 1
  selector: {matchLabels: {app: traveller}}
  template:
    metadata: {labels: {app: traveller}}
    spec:
      nodeSelector: {kubernetes.io/hostname: spark-2}
      containers: [{name: traveller, image: "rancher/mirrored-pause:lab"}]
"""


def changed(product: Product, operation: str, **arguments: Any) -> bool:
    """Dry-run and run an operation on the head. Return True if it changed something; the dry run must agree."""
    values = [f"{name}={json.dumps(value)}" for name, value in arguments.items()]
    target = ("--limit", HEAD, f"gb10.operations.kubectl.{operation}", *values)
    command = [*product.command("pyinfra"), "--json", str(product.inventory), *target]
    planned = product.run_command([*command, "--dry"])
    done = product.run_command([*command, "-y"])
    assert (planned.status, done.status) == (0, 0), planned.output + done.output
    expected = any(row["hosts_with_change"] for row in planned.json["plan"])
    actual = any(row["success"] for row in done.json["results"]["operations"])
    assert actual is expected
    return actual


def get(host: Any, what: str) -> str:
    return str(host.check_output(f"sudo k3s kubectl get {what}"))


def test_a_manifest_is_applied_again_only_after_drift(product: Product, cluster: None, host_of: Any) -> None:
    head = host_of(HEAD)
    assert changed(product, "apply", manifest=MANIFEST)
    assert not changed(product, "apply", manifest=MANIFEST)
    head.check_output('sudo k3s kubectl patch configmap ours --type merge -p \'{"data": {"it\\u0027s": "other"}}\'')
    assert changed(product, "apply", manifest=MANIFEST)
    assert json.loads(get(head, "configmap ours -o json"))["data"] == {"it's": "kept"}


def test_labels_are_set_and_removed(product: Product, cluster: None, host_of: Any) -> None:
    assert changed(product, "label", node=WORKER, labels={"rack": "one"})
    assert not changed(product, "label", node=WORKER, labels={"rack": "one"})
    assert get(host_of(HEAD), f"node {WORKER} -o jsonpath={{.metadata.labels.rack}}") == "one"
    assert changed(product, "label", node=WORKER, labels={"rack": None})
    assert not changed(product, "label", node=WORKER, labels={"rack": None})


def test_a_node_is_drained_and_uncordoned(product: Product, cluster: None, host_of: Any) -> None:
    head = host_of(HEAD)
    assert changed(product, "apply", manifest=PODS)
    head.check_output("sudo k3s kubectl -n kube-system rollout status deployment/traveller --timeout=30s")
    on_worker = f"pods -A -o name --field-selector spec.nodeName={WORKER}"
    assert "traveller" in get(head, on_worker)
    assert changed(product, "cordon", node=WORKER)
    assert not changed(product, "cordon", node=WORKER)
    assert changed(product, "drain", node=WORKER, seconds=20)
    assert "traveller" not in get(head, on_worker)
    assert get(head, f"node {WORKER} -o jsonpath={{.spec.unschedulable}}") == "true"
    head.check_output("sudo k3s kubectl -n kube-system delete deployment traveller")
    assert changed(product, "uncordon", node=WORKER)
    assert not changed(product, "uncordon", node=WORKER)


def test_a_node_is_deleted_with_its_password(product: Product, cluster: None, host_of: Any) -> None:
    host_of(WORKER).check_output("sudo systemctl stop k3s-agent")
    assert changed(product, "delete_node", node=WORKER)
    assert not changed(product, "delete_node", node=WORKER)
    assert WORKER not in get(host_of(HEAD), "nodes,secrets -A -o name")


def test_deleting_a_node_fails_without_an_api_server(product: Product, cluster: None, host_of: Any) -> None:
    host_of(HEAD).check_output("sudo systemctl stop k3s")
    done = product.pyinfra("-y", f"--limit={HEAD}", "gb10.operations.kubectl.delete_node", f"node={WORKER}")
    assert (done.status != 0, "gb10: SERVER_UNREACHABLE" in done.output) == (True, True), done.output
    host_of(HEAD).check_output("sudo systemctl start k3s")
    assert changed(product, "delete_node", node=WORKER)


def test_the_kubeconfig_works_and_keeps_other_contexts(
    product: Product, cluster: None, tmp_path: Path, lab: Any
) -> None:
    path = tmp_path / "config"
    theirs = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "other", "cluster": {"server": "https://other:6443"}}],
        "users": [{"name": "other", "user": {"token": "theirs"}}],
        "contexts": [{"name": "other", "context": {"cluster": "other", "user": "other"}}],
        "current-context": "other",
    }
    path.write_text(yaml.safe_dump(theirs))
    path.chmod(0o644)
    done = product.gb10("kubeconfig", "--output", str(path), "--context", "spark")
    assert done.status == 0, done.output
    merged = yaml.safe_load(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert merged["current-context"] == "other"
    for part in ("clusters", "users", "contexts"):
        assert theirs[part][0] in merged[part]
    (ours,) = [row["cluster"] for row in merged["clusters"] if row["name"] == "spark"]
    assert ours["server"] == f"https://{lab.address(HEAD)}:6443"
    command = [str(kubectl()), "--kubeconfig", str(path), "--context", "spark", "get", "nodes", "-o", "name"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert names == [f"node/{HEAD}", f"node/{WORKER}"]
    conflict = product.gb10("kubeconfig", "--output", str(path), "--context", "other")
    assert (conflict.status, "KUBECONFIG_CONFLICT" in conflict.output) == (6, True)
    assert yaml.safe_load(path.read_text()) == merged
