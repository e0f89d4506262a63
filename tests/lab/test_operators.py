"""NVIDIA's operators on the lab: in any order, alone, repeated, torn down, and with failures."""

from __future__ import annotations

import gzip
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.mirror import MirrorControl
from gb10.lab.shell import Docker
from tests.lab.observe import until
from tests.lab.product import BIN, Done, Product

HEAD, WORKER = "spark-1", "spark-2"
GPU, NETWORK = "gb10.deploys.gpu_operator", "gb10.deploys.network_operator"
RESOURCES = {GPU: "nvidia.com/gpu", NETWORK: "rdma/rdma_shared_device_a"}
GROUPS = ("nvidia.com", "mellanox.com", "k8s-sigs.io", "cncf.io")
SAVED = "/tmp/gb10-test-chart.tgz"
FAULTS = "/run/gb10-lab/kube-faults.json"
# Removes both operators, faster than the product's teardown and independent of it.
REMOVE_OPERATORS = """
kubectl() { k3s kubectl "$@"; }
kubectl delete secrets -A -l owner=helm
kubectl delete namespaces --ignore-not-found gpu-operator nvidia-network-operator
crds=$(kubectl get crd -o name | grep -E 'nvidia.com|mellanox.com|k8s-sigs.io|cncf.io')
[ -z "$crds" ] || kubectl delete $crds
"""
# A webhook as the operator itself registers it. helm does not uninstall it.
WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "nvidia-operator-validating-webhook-configuration"},
    "webhooks": [
        {
            "name": "policies.nvidia.com",
            "clientConfig": {"service": {"namespace": "gpu-operator", "name": "webhook"}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }
    ],
}
VALIDATOR_WAITS = {"operators": {"pods": {"nvidia-operator-validator": "Init:0/4"}}}

Kubectl = Callable[[str], str]


@pytest.fixture
def head(host_of: Any) -> Any:
    return host_of(HEAD)


@pytest.fixture
def kubectl(head: Any) -> Kubectl:
    return lambda arguments: str(head.check_output(f"sudo k3s kubectl {arguments}"))


@pytest.fixture
def operators(lab: Any, product: Product, head: Any) -> Iterator[Product]:
    """The product on a cluster without operators. It waits only a minute for an operator."""
    impatient = product.with_data(gpu_operator_wait_seconds=60, network_operator_wait_seconds=60)
    if head.run("sudo k3s kubectl wait --for=condition=Ready --timeout=5s node/spark-1 node/spark-2").rc != 0:
        lab.wipe_all()  # earlier tests may have left different rails on the two nodes
        done = impatient.gb10("bootstrap")
        assert done.status == 0, done.output
    _clear_faults(head)
    head.check_output(f"sudo sh -c {shlex.quote(REMOVE_OPERATORS)}")
    yield impatient
    _clear_faults(head)


def _set_fault(head: Any, wanted: dict[str, Any]) -> None:
    head.check_output(f"echo '{json.dumps(wanted)}' | sudo tee {FAULTS}")


def _clear_faults(head: Any) -> None:
    head.check_output(f"sudo rm -f {FAULTS}; sudo systemctl start k3s")


def offered(kubectl: Kubectl, resource: str) -> dict[str, int]:
    """Return how much of a resource each node offers."""
    nodes = json.loads(kubectl("get nodes -o json"))["items"]
    return {node["metadata"]["name"]: int(node["status"]["allocatable"].get(resource, "0")) for node in nodes}


def discoveries(kubectl: Kubectl) -> list[str]:
    """Return the namespace of each daemon set of node feature discovery's workers."""
    chosen = "-l app.kubernetes.io/name=node-feature-discovery,role=worker"
    return kubectl(f"get daemonsets -A {chosen} -o jsonpath={{.items[*].metadata.namespace}}").split()


def revisions(kubectl: Kubectl) -> list[str]:
    return sorted(kubectl("get secrets -A -l owner=helm -o name").split())


def deploy(product: Product, *arguments: str) -> Done:
    return product.pyinfra("-y", *arguments)


def assert_refused(done: Done, code: str, *words: str) -> None:
    """Check that a deploy was refused or failed with this error code and these words, without a stack trace."""
    assert done.status != 0, done.output
    assert f"gb10: {code}: " in done.output, done.output
    assert "Traceback" not in done.output
    for word in words:
        assert word in done.output, done.output


# Installation --------------------------------------------------------------------------------------------------------


def test_one_planned_run_makes_a_whole_cluster(whole: Product, fresh_nodes: None, kubectl: Kubectl) -> None:
    plan = whole.plan()
    assert whole.run() == plan
    assert len(discoveries(kubectl)) == 1
    made = revisions(kubectl)
    assert len(made) == 2
    done = whole.gb10("bootstrap", "--detailed-exitcode", "--json")
    assert done.status == 0, done.output
    assert revisions(kubectl) == made
    found = done.json["status"]
    assert (found["healthy"], found["gpu_operator"]["ready"], found["network_operator"]["ready"]) == (True, True, True)

    provisions = whole.with_data(node_enabled=True, gpu_operator_enabled=True, network_operator_enabled=True)
    plan = provisions.plan()
    assert plan
    assert provisions.run() == plan
    assert provisions.gb10("bootstrap", "--detailed-exitcode").status == 0
    assert revisions(kubectl) == made


@pytest.mark.parametrize(("first", "second"), [(GPU, NETWORK), (NETWORK, GPU)])
def test_both_operators_share_one_node_feature_discovery(
    operators: Product, kubectl: Kubectl, first: str, second: str
) -> None:
    for count, wanted in enumerate((first, second), start=1):
        plan = operators.plan(wanted)
        assert plan
        assert operators.run(wanted) == plan
        assert all(offered(kubectl, RESOURCES[wanted]).values())
        assert len(discoveries(kubectl)) == 1
        made = revisions(kubectl)
        assert len(made) == count, "installing one operator must not make a revision of the other"
    for again in (first, second):
        assert operators.plan(again) == set()
        assert operators.run(again) == set()
    assert revisions(kubectl) == made


def test_a_dry_run_shows_the_values_that_the_run_writes(operators: Product, head: Any) -> None:
    (operators.folder / "both.py").write_text(
        "from gb10.deploys import gpu_operator, network_operator\nnetwork_operator()\ngpu_operator()\n"
    )
    done = operators.pyinfra("--dry", "--diff", "both.py")
    assert done.status == 0, done.output
    shown = [line.split("enabled:")[1].strip() for line in done.output.splitlines() if "+   enabled:" in line]
    assert "NVIDIA does not validate" in done.output
    plan = operators.plan("both.py")
    assert operators.run("both.py") == plan
    names = ("network-operator", "gpu-operator")
    written = [head.check_output(f"sudo cat /var/lib/gb10/helm/{name}-values.yaml") for name in names]
    assert shown == [line.split(":")[1].strip() for text in written for line in text.splitlines() if "enabled:" in line]


def test_time_slicing_shares_a_gpu(operators: Product, kubectl: Kubectl) -> None:
    assert deploy(operators, GPU, "time_slicing=4").status == 0
    assert offered(kubectl, RESOURCES[GPU]) == {HEAD: 4, WORKER: 4}


def test_the_values_fit_the_runtime_of_the_cluster(operators: Product) -> None:
    both = operators.with_data(gpu_operator_enabled=True, k3s_runtime="containerd")
    assert "runtimeClass: docker" in both.pyinfra("--dry", "--diff", GPU).output, "the cluster runs docker"
    docker = operators.with_data(gpu_operator_enabled=True)
    assert "runtimeClass: docker" in docker.pyinfra("--dry", "--diff", "gb10.deploys.cluster").output
    switched = docker.pyinfra("--dry", "--diff", "gb10.deploys.cluster", "runtime=containerd")
    assert switched.status == 0, switched.output
    assert "gpu-operator-values.yaml" in switched.output
    assert "runtimeClass: docker" not in switched.output


def test_another_version_adds_one_revision(operators: Product, kubectl: Kubectl) -> None:
    assert deploy(operators, GPU, "version=v26.3.3").status == 0
    assert deploy(operators, GPU).status == 0
    assert len(revisions(kubectl)) == 2


def test_without_connectx7_the_network_operator_is_skipped(operators: Product, kubectl: Kubectl, host_of: Any) -> None:
    nodes = [host_of(name) for name in (HEAD, WORKER)]
    for node in nodes:
        node.check_output("sudo mkdir -p /etc/gb10-lab; sudo touch /etc/gb10-lab/no-cx7")
    try:
        for done in (operators.pyinfra("--dry", NETWORK), deploy(operators, NETWORK)):
            assert done.status == 0, done.output
            assert "No ConnectX-7" in done.output
        assert operators.run(GPU)
        assert revisions(kubectl) == ["secret/sh.helm.release.v1.gpu-operator.v1"]
    finally:
        for node in nodes:
            node.check_output("sudo rm /etc/gb10-lab/no-cx7")


def test_an_unreachable_node_may_have_a_connectx7(operators: Product, kubectl: Kubectl, host_of: Any, lab: Any) -> None:
    head = host_of(HEAD)
    head.check_output("sudo mkdir -p /etc/gb10-lab; sudo touch /etc/gb10-lab/no-cx7")
    away = lab.state.node(WORKER).container
    docker = Docker(lab.state.docker_host)
    docker("exec", away, "systemctl", "stop", "ssh.service")
    try:
        assert_refused(operators.pyinfra("-y", f"--limit={HEAD}", NETWORK), "NODE_UNREACHABLE", WORKER)
    finally:
        docker("exec", away, "systemctl", "start", "ssh.service")
        head.check_output("sudo rm /etc/gb10-lab/no-cx7")
    assert revisions(kubectl) == []


def test_docker_without_the_nvidia_runtime_is_refused(operators: Product, kubectl: Kubectl, host_of: Any) -> None:
    daemon = "/etc/docker/daemon.json"
    worker = host_of(WORKER)
    original = worker.check_output(f"cat {daemon}")
    other = json.dumps({**json.loads(original), "default-runtime": "runc"})
    _write_daemon(worker, other)
    try:
        assert (
            f"would be refused: DOCKER_RUNTIME: Docker's default runtime on {WORKER}"
            in operators.pyinfra("--dry", GPU).output
        )
        assert_refused(deploy(operators, GPU), "DOCKER_RUNTIME", WORKER)
        assert revisions(kubectl) == []
        done = operators.with_data(gpu_operator_enabled=True).gb10("bootstrap")
        assert (done.status, "gb10 provision head workers" in done.output) == (6, True), done.output
    finally:
        _write_daemon(worker, original)
    assert deploy(operators, GPU).status == 0


def _write_daemon(node: Any, content: str) -> None:
    node.check_output(f"echo {shlex.quote(content)} | sudo tee /etc/docker/daemon.json; sudo systemctl reload docker")


def test_the_network_operator_needs_a_rail(operators: Product, lab: Any) -> None:
    for name in (HEAD, WORKER):
        for rail in ("a", "b"):
            lab.lab.rail(name, rail, plugged=False)
    try:
        assert_refused(deploy(operators, NETWORK), "RDMA_DOWN", HEAD, WORKER)
    finally:
        for name in (HEAD, WORKER):
            for rail in ("a", "b"):
                lab.lab.rail(name, rail, plugged=True)
    assert deploy(operators, NETWORK).status == 0


# Teardown ------------------------------------------------------------------------------------------------------------


def test_a_teardown_leaves_no_definition_namespace_or_webhook(operators: Product, kubectl: Kubectl) -> None:
    operators.run(GPU)
    operators.run(NETWORK)
    kubectl(f"create -f - <<'WEBHOOK'\n{json.dumps(WEBHOOK)}\nWEBHOOK")

    def webhooks() -> list[str]:
        return kubectl("get validatingwebhookconfigurations,mutatingwebhookconfigurations -o name").split()

    assert webhooks()
    for wanted in (GPU, NETWORK):
        plan = operators.plan(f"{wanted}_teardown")
        assert plan
        assert operators.run(f"{wanted}_teardown") == plan
    assert not [name for name in kubectl("get crd -o name").split() if name.endswith(GROUPS)]
    assert "operator" not in kubectl("get namespaces -o name")
    assert not webhooks()
    assert revisions(kubectl) == []
    assert operators.run(f"{GPU}_teardown") == set()


def test_the_remaining_operator_gets_node_feature_discovery(operators: Product, kubectl: Kubectl) -> None:
    operators.run(GPU)
    operators.run(NETWORK)
    done = deploy(operators, f"{GPU}_teardown")
    assert "left without node feature discovery" in done.output
    assert "nodefeatures.nfd.k8s-sigs.io" in kubectl("get crd -o name")
    assert operators.run(NETWORK)
    assert discoveries(kubectl) == ["nvidia-network-operator"]
    assert all(offered(kubectl, RESOURCES[NETWORK]).values())


def test_a_teardown_keeps_foreign_objects_until_purged(operators: Product, kubectl: Kubectl) -> None:
    operators.run(GPU)
    kubectl("-n gpu-operator create configmap mine --from-literal=a=b")
    done = deploy(operators, f"{GPU}_teardown")
    assert done.status == 0, done.output
    assert "namespace is kept: it holds ConfigMap/mine" in done.output
    assert "mine" in kubectl("-n gpu-operator get configmaps -o name")
    assert "clusterpolicies" not in kubectl("get crd -o name")
    assert deploy(operators, f"{GPU}_teardown", "purge=true").status == 0
    assert "gpu-operator" not in kubectl("get namespaces -o name")


# Bad input -----------------------------------------------------------------------------------------------------------


def test_the_error_names_an_unknown_version_and_repository(operators: Product, kubectl: Kubectl) -> None:
    assert_refused(deploy(operators, GPU, "version=v26.99.0"), "CHART_UNKNOWN", "v26.99.0", "/charts")
    assert revisions(kubectl) == []


def test_a_version_without_gb10_support_is_refused(operators: Product) -> None:
    assert_refused(deploy(operators, GPU, "version=v25.3.4"), "SETTINGS_INVALID", "v25.10.0")


def test_the_error_names_a_value_that_the_chart_rejects(operators: Product, kubectl: Kubectl) -> None:
    done = operators.with_data(gpu_operator_values={"driver": {"enabled": "yes"}}).pyinfra("-y", GPU)
    assert_refused(done, "VALUES_REJECTED", "/driver/enabled")
    assert revisions(kubectl) == []


def test_another_chart_under_the_same_version_is_refused(
    operators: Product, kubectl: Kubectl, mirror: MirrorControl, lab: Any
) -> None:
    charts = Path(lab.state.mirror_folder) / "charts"
    wanted = charts / "gpu-operator-v26.7.0.tgz"
    _remove_cached_charts(lab)
    shutil.copy(wanted, SAVED)
    try:
        for other in ("network-operator-26.4.1.tgz", "gpu-operator-v26.3.3.tgz"):
            shutil.copy(charts / other, wanted)
            assert_refused(deploy(operators, GPU), "CHART_WRONG")
        assert revisions(kubectl) == []
    finally:
        shutil.move(SAVED, wanted)


def test_a_repackaged_chart_is_refused_until_it_is_accepted(operators: Product, kubectl: Kubectl, lab: Any) -> None:
    wanted = Path(lab.state.mirror_folder) / "charts" / "gpu-operator-v26.7.0.tgz"
    assert deploy(operators, GPU).status == 0
    assert operators.pyinfra("-y", f"{GPU}_teardown").status == 0
    _remove_cached_charts(lab)
    shutil.copy(wanted, SAVED)
    try:
        wanted.write_bytes(gzip.compress(gzip.decompress(wanted.read_bytes()), compresslevel=1))
        assert_refused(deploy(operators, GPU), "PIN_DIFFERS", "chart/gpu-operator/v26.7.0")
        assert revisions(kubectl) == []
        assert operators.gb10("lock", "--update", "chart/gpu-operator/v26.7.0").status == 0
        done = deploy(operators, GPU)
        assert done.status == 0, done.output
    finally:
        shutil.move(SAVED, wanted)


def test_a_chart_without_the_pinned_digest_is_refused(operators: Product, kubectl: Kubectl) -> None:
    assert_refused(operators.with_data(gpu_operator_sha256="0" * 64).pyinfra("-y", GPU), "CHART_WRONG", "0" * 64)
    assert revisions(kubectl) == []


def test_failed_chart_downloads_are_retried(operators: Product, mirror: MirrorControl, lab: Any) -> None:
    _remove_cached_charts(lab)
    mirror.status(r"index\.yaml$", 503, times=1)
    mirror.truncate(r"gpu-operator-v26\.7\.0\.tgz$", 500, times=1)
    done = deploy(operators, GPU)
    assert done.status == 0, done.output


def test_an_unreachable_repository_has_its_own_error(operators: Product, mirror: MirrorControl, lab: Any) -> None:
    _remove_cached_charts(lab)
    mirror.status(r"index\.yaml$", 503, times=None)
    assert_refused(deploy(operators, GPU), "CHART_UNREACHABLE", "503")
    mirror.clear()
    mirror.truncate(r"gpu-operator-v26\.7\.0\.tgz$", 500)
    assert_refused(deploy(operators, GPU), "CHART_BROKEN")


def test_a_wrong_helm_archive_is_never_installed(operators: Product, mirror: MirrorControl, head: Any) -> None:
    head.check_output("sudo rm -f /usr/local/bin/helm")
    mirror.alter(r"helm-.*\.tar\.gz$")
    assert_refused(deploy(operators, GPU), "CHECKSUM_MISMATCH", "helm-")
    assert not head.file("/usr/local/bin/helm").exists
    mirror.clear()
    mirror.status(r"helm-.*\.tar\.gz$", 404, times=None)
    assert_refused(deploy(operators, GPU), "VERSION_UNKNOWN", "helm-")
    assert not head.file("/usr/local/bin/helm").exists
    mirror.clear()
    assert deploy(operators, GPU).status == 0
    assert head.file("/usr/local/bin/helm").mode == 0o755


def _remove_cached_charts(lab: Any) -> None:
    shutil.rmtree(lab.root(HEAD) / "var/lib/gb10/helm/charts", ignore_errors=True)


# Bad luck ------------------------------------------------------------------------------------------------------------


def test_the_error_names_pods_that_are_never_ready(operators: Product, head: Any) -> None:
    pods = {"nvidia-operator-validator": "Init:0/4", "nvidia-device-plugin-daemonset": "ImagePullBackOff"}
    _set_fault(head, {"operators": {"pods": pods}})
    done = deploy(operators, GPU, "wait_seconds=10")
    assert_refused(done, "OPERATOR_NOT_READY", "nvidia-operator-validator-", "Init:0/4", "ImagePullBackOff", WORKER)
    patient = operators.with_data(gpu_operator_enabled=True, gpu_operator_wait_seconds=10)
    shown = patient.gb10("bootstrap", "--json")
    assert (shown.status, shown.json["error"]["code"]) == (5, "OPERATOR_NOT_READY"), shown.output
    assert any("its policy is notReady" in reason for reason in shown.json["status"]["gpu_operator"]["reasons"])
    _clear_faults(head)
    assert deploy(operators, GPU).status == 0


def test_a_deploy_waits_for_late_operands(operators: Product, head: Any, kubectl: Kubectl) -> None:
    _set_fault(head, {"operators": {"delay_seconds": 8}})
    assert operators.run(NETWORK)
    assert all(offered(kubectl, RESOURCES[NETWORK]).values())


def test_the_error_names_a_node_without_a_gpu(operators: Product, host_of: Any) -> None:
    _change_gpu(host_of(WORKER), "sudo mkdir -p /etc/gb10-lab; sudo touch /etc/gb10-lab/no-gpu")
    try:
        assert_refused(
            deploy(operators, GPU, "wait_seconds=12"), "OPERATOR_NOT_READY", f"{WORKER} offers no nvidia.com/gpu"
        )
    finally:
        _change_gpu(host_of(WORKER), "sudo rm /etc/gb10-lab/no-gpu")


def _change_gpu(worker: Any, command: str) -> None:
    """Change a node's GPU by a command and restart the agent, which reads the devices when it starts."""
    worker.check_output(f"{command}; sudo systemctl restart k3s-agent")


def test_the_error_names_an_unknown_runtime_class(operators: Product) -> None:
    done = operators.with_data(gpu_operator_values={"operator": {"runtimeClass": "nvidia"}}).pyinfra(
        "-y", GPU, "wait_seconds=12"
    )
    assert_refused(done, "OPERATOR_NOT_READY", 'RuntimeHandler "nvidia" not supported')


def test_a_release_of_a_killed_helm_is_repaired_on_request(operators: Product, head: Any, kubectl: Kubectl) -> None:
    _set_fault(head, VALIDATOR_WAITS)
    running = _start(operators, GPU)
    until(lambda: "pending-install" in kubectl("get secrets -A -l owner=helm --show-labels"), 40)
    head.check_output("sudo pkill -9 -x helm")
    running.communicate(timeout=60)
    _clear_faults(head)
    assert_refused(deploy(operators, GPU), "HELM_PENDING", "pending-install")
    assert operators.plan(GPU) == set(), "a refused release is not a change"
    assert deploy(operators, GPU, "repair=true").status == 0
    made = revisions(kubectl)
    assert operators.run(GPU) == set()
    assert revisions(kubectl) == made


def test_a_killed_upgrade_is_rolled_back_first(operators: Product, head: Any, kubectl: Kubectl) -> None:
    assert deploy(operators, GPU, "version=v26.3.3").status == 0
    _set_fault(head, VALIDATOR_WAITS)
    running = _start(operators, GPU)
    until(lambda: "pending-upgrade" in kubectl("get secrets -A -l owner=helm --show-labels"), 40)
    head.check_output("sudo pkill -9 -x helm")
    running.communicate(timeout=60)
    _clear_faults(head)
    done = deploy(operators, GPU, "repair=true")
    assert done.status == 0, done.output
    assert "back to revision 1" in done.output


def test_the_next_run_waits_for_the_helm_of_a_killed_run(operators: Product, head: Any, kubectl: Kubectl) -> None:
    _set_fault(head, VALIDATOR_WAITS)
    running = _start(operators, GPU)
    until(lambda: "pending-install" in kubectl("get secrets -A -l owner=helm --show-labels"), 40)
    running.kill()
    running.communicate(timeout=60)
    again = _start(operators, GPU)
    time.sleep(5)
    _clear_faults(head)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert revisions(kubectl) == ["secret/sh.helm.release.v1.gpu-operator.v1"]


def test_an_install_reports_the_loss_of_the_api_server(operators: Product, head: Any) -> None:
    _set_fault(head, VALIDATOR_WAITS)
    running = _start(operators, GPU, "wait_seconds=15")
    time.sleep(8)
    head.check_output("sudo systemctl stop k3s")
    output, _ = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "gb10: SERVER_UNREACHABLE: " in output
    _clear_faults(head)
    done = deploy(operators, GPU, "repair=true")
    assert done.status == 0, done.output


def _start(product: Product, *arguments: str) -> subprocess.Popen[str]:
    """Start pyinfra in the background."""
    return subprocess.Popen(
        [str(BIN / "pyinfra"), "-y", str(product.inventory), *arguments],
        cwd=product.folder,
        env=product.full_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
