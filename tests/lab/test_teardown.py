"""A teardown removes K3s, proves it, and changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.observe import shell
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
UNITS = tuple(f"/etc/systemd/system/{unit}.service{end}" for unit in ("k3s", "k3s-agent") for end in ("", ".env"))
COMMANDS = ("k3s", "kubectl", "crictl", "k3s-killall.sh", "k3s-uninstall.sh", "k3s-agent-uninstall.sh")
FOLDERS = ("/etc/rancher", "/var/lib/rancher", "/var/lib/kubelet", "/run/k3s", "/var/lib/gb10/k3s")
HALF_WRITTEN = ("/usr/local/bin/k3s.*", "/etc/systemd/system/k3s*")
LEFT = (*(f"/usr/local/bin/{command}" for command in COMMANDS), *UNITS, *FOLDERS)


def remaining(host: Any) -> list[str]:
    """Return what is left of K3s on a node: files, containers, interfaces, firewall chains and processes."""
    found = [path for path in LEFT if host.run(f"sudo test -e {path}").rc == 0]
    found += host.run(f"ls -d {' '.join(HALF_WRITTEN)}").stdout.split()
    found += shell(host, "docker ps -aq --filter label=io.kubernetes.pod.namespace").split()
    found += host.run("ls /sys/class/net | grep -x -e cni0 -e flannel.1").stdout.split()
    found += host.run("sudo iptables-save | grep -e ^:KUBE- -e ^:FLANNEL-").stdout.split()
    found += host.run("pgrep -f '^[^ ]*python3 /usr/local/bin/k3s|^/usr/local/bin/k3s'").stdout.split()
    return found


def test_a_teardown_removes_k3s_and_nothing_else(product: Product, cluster: None, host_of: Any) -> None:
    head = host_of(HEAD)
    shell(head, "mkdir -p /data/huggingface && echo weights > /data/huggingface/model")
    shell(head, "docker tag rancher/mirrored-pause:lab vllm:lab && docker run -d --name vllm vllm:lab")
    assert product.gb10("teardown", "--yes").status == 0
    for name in (HEAD, WORKER):
        assert remaining(host_of(name)) == []
    assert shell(head, "docker inspect -f '{{.State.Running}}' vllm") == "true"
    assert head.file("/data/huggingface/model").content_string == "weights\n"
    again = product.gb10("teardown", "--yes", "--json")
    assert again.status == 0
    assert product.plan("gb10.deploys.k3s_teardown") == set()
    assert product.gb10("status").status == 0


def test_a_teardown_follows_its_plan_with_agents_first(product: Product, cluster: None) -> None:
    plan = product.plan("gb10.deploys.k3s_teardown")
    assert {host for _, host in plan} == {HEAD, WORKER}
    done = product.pyinfra("--json", "-y", "gb10.deploys.k3s_teardown")
    operations = [operation for operation in done.json["results"]["operations"] if operation["success"]]
    assert {(operation["name"], host) for operation in operations for host in operation["success"]} == plan
    assert [operation["name"].rpartition(" | ")[2] for operation in operations] == [
        "Uninstall the K3s agent",
        "Uninstall the K3s server",
    ]


def test_a_teardown_with_a_stopped_docker_is_refused(product: Product, cluster: None, host_of: Any) -> None:
    worker = host_of(WORKER)
    shell(worker, "docker run -d --label io.kubernetes.pod.namespace=default rancher/mirrored-pause:lab")
    shell(worker, "systemctl stop docker.socket docker")
    stopped = product.gb10("teardown", "--yes", "--limit", WORKER)
    assert (stopped.status, "DOCKER_STOPPED" in stopped.output) == (1, True), stopped.output
    shell(worker, "systemctl start docker")
    assert product.gb10("teardown", "--yes", "--limit", WORKER).status == 0
    assert remaining(worker) == []


def test_a_declined_teardown_changes_nothing(product: Product, cluster: None) -> None:
    done = product.gb10("teardown", stdin="no\n")
    assert done.status != 0
    assert product.gb10("status").status == 0


def test_a_teardown_unmounts_and_deletes_no_mounted_data(product: Product, cluster: None, host_of: Any) -> None:
    worker = host_of(WORKER)
    shell(worker, "mkdir -p /data/precious /var/lib/kubelet/plugins/x/mount /data/state")
    shell(worker, "echo gold > /data/precious/file; echo gold > /data/state/file")
    shell(worker, "mount --bind /data/precious /var/lib/kubelet/plugins/x/mount")
    shell(worker, "mkdir -p /var/lib/rancher/k3s/storage && mount --bind /data/state /var/lib/rancher/k3s/storage")
    assert product.gb10("teardown", "--yes").status == 0
    assert remaining(worker) == []
    for path in ("/data/precious/file", "/data/state/file"):
        assert worker.file(path).content_string == "gold\n"


def test_a_busy_mount_stops_the_teardown_before_it_deletes(product: Product, cluster: None, host_of: Any) -> None:
    worker = host_of(WORKER)
    shell(worker, "mkdir -p /data/precious /var/lib/kubelet/plugins/x/mount; echo gold > /data/precious/file")
    shell(worker, "mount --bind /data/precious /var/lib/kubelet/plugins/x/mount")
    shell(worker, "systemd-run --unit holder -p WorkingDirectory=/var/lib/kubelet/plugins/x/mount sleep 600")
    done = product.gb10("teardown", "--yes")
    assert done.status != 0
    assert "/var/lib/kubelet/plugins/x/mount" in done.output + done.log
    assert worker.file("/data/precious/file").content_string == "gold\n"
    assert worker.run("sudo test -d /var/lib/rancher/k3s").rc == 0
    shell(worker, "systemctl stop holder")
    assert product.gb10("teardown", "--yes").status == 0
    assert remaining(worker) == []
    assert worker.file("/data/precious/file").content_string == "gold\n"


HALVES = {
    "only a binary": "printf '#!/bin/sh\\n' > /usr/local/bin/k3s; chmod 755 /usr/local/bin/k3s",
    "only a config": "mkdir -p /etc/rancher/k3s && echo 'docker: true' > /etc/rancher/k3s/config.yaml",
    "a unit without its binary": "printf '[Service]\\nExecStart=/usr/local/bin/k3s agent\\n'"
    " > /etc/systemd/system/k3s-agent.service",
    "a killed download": "touch /usr/local/bin/k3s.0123456789abcdef.part"
    " /usr/local/bin/k3s.0123456789abcdef.part.error /usr/local/bin/k3s.sums /usr/local/bin/k3s.new"
    " /etc/systemd/system/k3s.service.new",
    "only state": "mkdir -p /var/lib/rancher/k3s/agent /etc/rancher/node && echo x > /etc/rancher/node/password",
}


@pytest.mark.parametrize("half", HALVES)
def test_a_half_installed_node_can_be_torn_down(product: Product, fresh_nodes: Any, host_of: Any, half: str) -> None:
    shell(host_of(WORKER), HALVES[half])
    assert product.gb10("teardown", "--yes").status == 0
    assert remaining(host_of(WORKER)) == []
    assert product.plan("gb10.deploys.k3s_teardown") == set()


def test_a_teardown_of_a_worker_removes_it_from_the_cluster(product: Product, cluster: None, host_of: Any) -> None:
    assert product.gb10("teardown", "--yes", "--limit", WORKER).status == 0
    assert remaining(host_of(WORKER)) == []
    head = host_of(HEAD)
    assert shell(head, "k3s kubectl get nodes -o name").split() == [f"node/{HEAD}"]
    assert WORKER not in shell(head, "k3s kubectl -n kube-system get secrets -o name")
    assert product.gb10("bootstrap").status == 0
