"""From bare nodes to a cluster: the run does what its dry run lists, and a second run changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.observe import written_files
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"


def main_pid(host: Any, unit: str) -> str:
    return str(host.check_output(f"systemctl show -p MainPID --value {unit}"))


def generations(host: Any) -> str:
    command = "get deployments -A -o jsonpath={.items[*].metadata.generation}"
    return str(host.check_output(f"sudo k3s kubectl {command}"))


def test_a_dry_run_on_bare_nodes_lists_the_changes_of_the_run(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    nodes = [host_of(HEAD), host_of(WORKER)]
    before = [written_files(node) for node in nodes]
    plan = product.plan()
    assert [written_files(node) for node in nodes] == before
    assert plan == product.run()
    assert {host for _, host in plan} == {HEAD, WORKER}


def test_a_second_run_changes_nothing_and_restarts_nothing(product: Product, cluster: None, host_of: Any) -> None:
    nodes = [host_of(HEAD), host_of(WORKER)]
    pids = main_pid(nodes[0], "k3s"), main_pid(nodes[1], "k3s-agent")
    generation = generations(nodes[0])  # outside of the two written_files(), because kubectl writes a cache
    before = [written_files(node) for node in nodes]
    assert product.plan() == set()
    assert product.run() == set()
    after = [written_files(node) for node in nodes]
    assert (main_pid(nodes[0], "k3s"), main_pid(nodes[1], "k3s-agent")) == pids
    assert generations(nodes[0]) == generation
    changed = {
        path for old, new in zip(before, after, strict=True) for path in {*old, *new} if old.get(path) != new.get(path)
    }
    # K3s keeps writing its database.
    assert {path for path in changed if not path.startswith("/var/lib/rancher/k3s/server/db")} == set()


def test_the_detailed_exit_code_reports_changes(product: Product, cluster: None) -> None:
    assert product.gb10("bootstrap", "--detailed-exitcode").status == 0
    product.gb10("teardown", "--yes")
    assert product.gb10("bootstrap", "--detailed-exitcode", "--dry-run").status == 3
    assert product.gb10("bootstrap", "--detailed-exitcode").status == 3


HALVES = {
    "stopped, disabled, and without kubectl": [
        (HEAD, "systemctl stop k3s; rm /usr/local/bin/kubectl"),
        (WORKER, "systemctl disable k3s-agent"),
    ],
    "changed, readable by others, and without an uninstall script": [
        (HEAD, "chmod 644 /etc/rancher/k3s/config.yaml; rm /usr/local/bin/k3s-uninstall.sh"),
        (HEAD, "chown nvidia /etc/rancher/k3s/token"),
        (WORKER, "sed -i 's/docker: true/docker: false/' /etc/rancher/k3s/config.yaml"),
    ],
    "without its binary": [(WORKER, "rm /usr/local/bin/k3s")],
    "without its unit, and without its token": [
        (WORKER, "rm /etc/systemd/system/k3s-agent.service /etc/rancher/k3s/token && systemctl daemon-reload")
    ],
    "without everything but its unit": [
        (WORKER, "systemctl stop k3s-agent; rm -rf /usr/local/bin/k3s* /etc/rancher /var/lib/rancher")
    ],
}


@pytest.mark.parametrize("half", HALVES)
def test_a_half_installed_cluster_is_repaired_as_planned(
    product: Product, cluster: None, host_of: Any, half: str
) -> None:
    for name, command in HALVES[half]:
        assert host_of(name).run(f"sudo sh -c {command!r}").rc == 0
    nodes = [host_of(HEAD), host_of(WORKER)]
    before = [set(written_files(node).items()) for node in nodes]
    plan = product.plan()
    for node, old in zip(nodes, before, strict=True):
        assert {path for path, _ in set(written_files(node).items()) ^ old if "/server/db" not in path} == set()
    assert product.run() == plan
    assert {host for _, host in plan} == {name for name, _ in HALVES[half]}
    assert product.plan() == set()
    status = product.gb10("status")
    assert (status.status, "healthy" in status.output) == (0, True), status.output


def test_a_new_cluster_has_the_usual_services_and_files(product: Product, cluster: None, over_ssh: Any) -> None:
    head, worker = over_ssh(HEAD), over_ssh(WORKER)
    assert head.service("k3s").is_running
    assert head.service("k3s").is_enabled
    assert worker.service("k3s-agent").is_running
    assert worker.service("k3s-agent").is_enabled
    assert not worker.service("k3s").is_running
    assert ":6443" in head.check_output("ss -H -ltn sport = :6443")
    for node in (head, worker):
        with node.sudo():
            for path in ("/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/token"):
                assert (node.file(path).mode, node.file(path).user) == (0o600, "root")
            assert "K10" not in node.file("/etc/rancher/k3s/config.yaml").content_string
            assert "docker: true" in node.file("/etc/rancher/k3s/config.yaml").content_string
        assert node.file("/usr/local/bin/k3s").mode == 0o755
        assert node.file("/usr/local/bin/k3s-killall.sh").mode == 0o755
    assert worker.file("/usr/local/bin/k3s-agent-uninstall.sh").exists
    with head.sudo():
        assert head.file("/etc/rancher/k3s/k3s.yaml").mode == 0o600
        rows = head.check_output("k3s kubectl get nodes --no-headers").splitlines()
        deployments = head.check_output("k3s kubectl get deployments -A -o name")
    assert [row.split()[:2] for row in rows] == [[HEAD, "Ready"], [WORKER, "Ready"]]
    assert "traefik" not in deployments


def test_pods_run_in_the_nodes_docker(cluster: None, host_of: Any) -> None:
    names = host_of(HEAD).check_output(
        "sudo docker ps --filter label=io.kubernetes.pod.namespace --format '{{.Names}}'"
    )
    assert "k8s_coredns" in names


def test_a_changed_server_setting_restarts_only_the_server(product: Product, cluster: None) -> None:
    more = product.with_data(k3s_server_config={"tls-san": ["spark.lan"]})
    plan = more.plan()
    assert plan == {("Cluster | Write config.yaml", HEAD), ("Cluster | Run the K3s server", HEAD)}
    assert more.run() == plan


def test_config_yaml_gets_more_keys_from_the_inventory(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    # Labels from the settings apply only when a node joins for the first time.
    more = product.with_data(k3s_config={"node-label": ["rack=one"]}, k3s_server_config={"tls-san": ["spark.lan"]})
    more.run()
    labels = host_of(HEAD).check_output("sudo k3s kubectl get nodes -o jsonpath={.items[*].metadata.labels.rack}")
    assert labels.split() == ["one", "one"]
    with host_of(HEAD).sudo():
        assert "spark.lan" in host_of(HEAD).file("/etc/rancher/k3s/config.yaml").content_string


def test_containerd_can_be_the_runtime(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    product.with_data(k3s_runtime="containerd").run()
    runtimes = host_of(HEAD).check_output(
        "sudo k3s kubectl get nodes -o jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}"
    )
    assert all(runtime.startswith("containerd://") for runtime in runtimes.split())


def test_a_wiped_worker_rejoins_under_its_name(product: Product, cluster: None, lab: Any, host_of: Any) -> None:
    password = host_of(WORKER).check_output("sudo cat /etc/rancher/node/password")
    lab.wipe(WORKER, trust=True)
    plan = product.plan()
    assert plan == product.run()
    assert ("Cluster | Clear what the cluster remembers of a wiped node", WORKER) in plan
    assert product.gb10("status").status == 0
    assert host_of(WORKER).check_output("sudo cat /etc/rancher/node/password") != password


def test_passwords_of_registry_and_proxy_are_in_no_diff(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    registries = {"configs": {"registry.lan": {"auth": {"username": "u", "password": "canary-registry"}}}}
    more = product.with_data(k3s_registries=registries, https_proxy="http://u:canary-proxy@proxy.lan:3128")
    planned = more.pyinfra("--dry", "--diff", "gb10.deploys.cluster")
    assert "canary" not in planned.output
    assert more.gb10("bootstrap").status == 0
    with host_of(HEAD).sudo():
        assert "canary-registry" in host_of(HEAD).file("/etc/rancher/k3s/registries.yaml").content_string
        environment = host_of(HEAD).file("/etc/systemd/system/k3s.service.env")
        assert "canary-proxy" in environment.content_string
        assert environment.mode == 0o600
        assert "10.42.0.0/16" in environment.content_string


def test_offline_nodes_get_their_files_from_the_controller(
    product: Product, fresh_nodes: Any, host_of: Any, lab: Any, mirror: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "airgap"
    folder.mkdir()
    release = next(lab.state.mirror_folder.glob("k3s/v1.36.4*"))
    for name in ("k3s", "k3s-arm64"):
        (folder / name).write_bytes((release / name).read_bytes())
    image = host_of(HEAD).check_output("printf x > /tmp/f && tar -C /tmp -c f | sudo docker import - airgap:1")
    host_of(HEAD).check_output("sudo docker save -o /tmp/images.tar airgap:1 && sudo docker rmi airgap:1")
    archive = lab.root(HEAD) / "tmp" / "images.tar"
    (folder / "k3s-airgap-images-amd64.tar").write_bytes(archive.read_bytes())
    offline = product.with_data(k3s_airgap=str(folder), k3s_mirror="http://127.0.0.1:1")
    plan = offline.plan()
    assert offline.run() == plan
    assert not mirror.requests("k3s")
    assert offline.plan() == set()
    for name in (HEAD, WORKER):
        assert image in host_of(name).check_output("sudo docker images --no-trunc -q airgap:1")
        left = "sudo find /var/lib/rancher /usr/local/bin -name '*.tar' -o -name '*.part'"
        assert host_of(name).check_output(left) == ""


def test_a_missing_airgap_folder_has_its_own_error(product: Product, fresh_nodes: Any, tmp_path: Path) -> None:
    done = product.with_data(k3s_airgap=str(tmp_path / "nowhere")).gb10("bootstrap")
    assert (done.status, "AIRGAP_MISSING" in done.output) == (2, True), done.output
