"""Upgrades go one node at a time, head first. Installations of the official script are adopted."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.lab.observe import shell
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
OLD, NEW = "v1.36.4+k3s1", "v1.36.5+k3s1"


def versions(head: Any) -> list[str]:
    return shell(head, "k3s kubectl get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}").split()


def cordoned(head: Any) -> list[str]:
    return shell(head, "k3s kubectl get nodes --field-selector spec.unschedulable=true -o name").split()


# At the installed version, with one cluster for all tests ------------------------------------------------------------


def test_a_binary_without_the_pinned_digest_is_replaced(product: Product, cluster: None, host_of: Any) -> None:
    worker = host_of(WORKER)
    digest = worker.file("/usr/local/bin/k3s").sha256sum
    pinned = product.with_data(k3s_sha256={OLD: {"amd64": digest, "arm64": digest}})
    assert pinned.plan() == set()
    shell(worker, "cp /usr/local/bin/k3s /tmp/k3s; echo >> /tmp/k3s; mv /tmp/k3s /usr/local/bin/k3s")
    plan = pinned.plan()
    assert {host for _, host in plan} == {WORKER}
    assert pinned.run() == plan
    assert worker.file("/usr/local/bin/k3s").sha256sum == digest
    assert pinned.plan() == set()


@pytest.mark.parametrize(("version", "code"), [("v1.38.0+k3s1", "VERSION_SKIP"), ("v1.35.8+k3s1", "VERSION_DOWNGRADE")])
def test_a_skipped_version_and_a_downgrade_are_refused(
    product: Product, cluster: None, host_of: Any, version: str, code: str
) -> None:
    done = product.with_data(k3s_version=version).gb10("bootstrap")
    assert (done.status, code in done.output) == (6, True), done.output
    assert versions(host_of(HEAD)) == [OLD, OLD]
    assert product.plan() == set()


# Upgrades ------------------------------------------------------------------------------------------------------------


def test_a_new_pin_upgrades_the_head_then_the_worker(product: Product, cluster: None, host_of: Any) -> None:
    new = product.with_data(k3s_version=NEW)
    plan = new.plan()
    assert plan == {
        (f"Cluster | {operation}", host)
        for operation in (f"Download K3s {NEW}", f"Upgrade to K3s {NEW}")
        for host in (HEAD, WORKER)
    }
    assert new.run() == plan
    head = host_of(HEAD)
    assert versions(head) == [NEW, NEW]
    assert cordoned(head) == []
    assert new.plan() == set()
    moments = [float(shell(host_of(name), "stat -c %.Z /usr/local/bin/k3s")) for name in (HEAD, WORKER)]
    assert moments[0] < moments[1]


def test_a_cordoned_node_stays_cordoned(product: Product, cluster: None, host_of: Any) -> None:
    head = host_of(HEAD)
    shell(head, f"k3s kubectl cordon {WORKER}")
    product.with_data(k3s_version=NEW).run()
    assert versions(head) == [NEW, NEW]
    assert cordoned(head) == [f"node/{WORKER}"]
    shell(head, f"k3s kubectl uncordon {WORKER}")


def test_a_failed_drain_leaves_the_node_uncordoned(product: Product, cluster: None, host_of: Any) -> None:
    head = host_of(HEAD)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep", "namespace": "kube-system"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"k8s-app": "coredns"}}},
    }
    head.check_output(f"sudo sh -c 'echo {json.dumps(json.dumps(budget))} | k3s kubectl apply -f -'")
    done = product.with_data(k3s_version=NEW, k3s_drain_seconds=5).gb10("bootstrap")
    assert (done.status != 0, "DRAIN_FAILED" in done.output) == (True, True), done.output
    assert versions(head) == [OLD, OLD]
    assert cordoned(head) == []
    shell(head, "k3s kubectl -n kube-system delete pdb keep")


@pytest.mark.parametrize("seconds", [3.0, 5.0])
def test_the_next_upgrade_completes_a_killed_one(product: Product, cluster: None, host_of: Any, seconds: float) -> None:
    new = product.with_data(k3s_version=NEW)
    first = new.start("bootstrap")
    time.sleep(seconds)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = new.gb10("bootstrap")
    assert done.status == 0, done.output
    head = host_of(HEAD)
    assert versions(head) == [NEW, NEW]
    assert cordoned(head) == []


def test_a_starting_server_may_hold_its_port(product: Product, cluster: None, host_of: Any) -> None:
    head, folder = host_of(HEAD), "/run/systemd/system/k3s.service.d"
    shell(head, f"mkdir -p {folder} && printf '[Service]\\nExecStartPost=/bin/sleep 8\\n' > {folder}/slow.conf")
    shell(head, "systemctl daemon-reload && systemctl restart --no-block k3s")
    starting = "systemctl is-active k3s | grep -q ^activating && ss -Hltn sport = :6443 | grep -q ."
    shell(head, f"timeout 20 sh -c 'until {starting}; do sleep 0.1; done'")
    done = product.with_data(k3s_version=NEW).gb10("bootstrap")
    assert done.status == 0, done.output
    assert head.service("k3s").is_running
    shell(head, f"rm -r {folder} && systemctl daemon-reload")


# Adoption of the official script's installation ----------------------------------------------------------------------

UNIT = """[Unit]
Description=Lightweight Kubernetes
[Install]
WantedBy=multi-user.target
[Service]
Type=notify
EnvironmentFile=-/etc/systemd/system/{unit}.service.env
KillMode=process
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s \\
    {flags}
"""


def install_officially(host: Any, mirror_url: str, role: str, flags: str, environment: str) -> None:
    """Install K3s like the official script: unit with flags, environment file with token, uninstall script."""
    unit = "k3s" if role == "server" else "k3s-agent"
    release = f"{mirror_url}/k3s/{OLD.replace('+', '%2B')}"
    shell(host, f"curl -fsS -o /usr/local/bin/k3s {release}/k3s && chmod 755 /usr/local/bin/k3s")
    host.check_output(f"sudo tee /etc/systemd/system/{unit}.service <<'X'\n{UNIT.format(unit=unit, flags=flags)}\nX")
    shell(host, f"umask 077; printf '{environment}' > /etc/systemd/system/{unit}.service.env")
    shell(
        host,
        f"printf '#!/bin/sh\\necho official\\n' > /usr/local/bin/{unit}-uninstall.sh; chmod 755 /usr/local/bin/*.sh",
    )
    shell(host, f"systemctl daemon-reload && systemctl enable -q --now {unit}")


def test_a_cluster_of_the_official_script_is_adopted(
    product: Product, fresh_nodes: Any, host_of: Any, lab: Any
) -> None:
    head, worker = host_of(HEAD), host_of(WORKER)
    token = "adopted-0815"  # noqa: S105
    names = {"head": f"--node-name {HEAD} --node-ip {lab.address(HEAD)}", "worker": f"--node-name {WORKER}"}
    server_flags = f"server '--docker' '--disable=traefik,servicelb' '--write-kubeconfig-mode' '644' {names['head']}"
    # The official script writes `--token` into the unit, one word on each line.
    flags = f"{server_flags} \\\n '--token' \\\n '{token}'"
    install_officially(head, lab.mirror_url, "server", flags, f"K3S_TOKEN={token}\\n")
    url = f"https://{lab.address(HEAD)}:6443"
    agent_flags = f"agent '--docker' --node-ip {lab.address(WORKER)} {names['worker']}"
    install_officially(worker, lab.mirror_url, "agent", agent_flags, f"K3S_TOKEN={token}\\nK3S_URL={url}\\n")
    shell(head, "k3s kubectl create configmap mine --from-literal=a=b")
    certificate = shell(head, "sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /usr/local/bin/k3s")
    server_token = shell(head, "cat /var/lib/rancher/k3s/server/token")
    restarts = [starts(head, "k3s"), starts(worker, "k3s-agent")]

    seen = product.pyinfra("-vvv", "--debug", "--dry", "--diff", "gb10.deploys.cluster").output
    assert ("--node-name" in seen, token in seen) == (True, False)
    plan = product.plan()
    assert product.run() == plan
    assert not any("Download" in operation for operation, _ in plan)
    assert shell(head, "sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /usr/local/bin/k3s") == certificate
    assert shell(head, "cat /var/lib/rancher/k3s/server/token") == server_token
    assert [starts(head, "k3s"), starts(worker, "k3s-agent")] == [count + 1 for count in restarts]
    assert shell(head, "k3s kubectl get configmap mine -o jsonpath={.data.a}") == "b"
    assert product.gb10("status").status == 0
    assert token not in shell(head, "cat /etc/systemd/system/k3s.service.env")
    assert product.plan() == set()


def starts(host: Any, unit: str) -> int:
    """Return how often systemd has started a unit."""
    return int(
        shell(host, f"journalctl --sync; journalctl -u {unit} -o cat | grep -c '^Starting {unit}.service' || true")
    )


def test_an_adoption_refuses_to_lose_a_flag(product: Product, fresh_nodes: Any, host_of: Any, lab: Any) -> None:
    head = host_of(HEAD)
    names = f"--node-name {HEAD} --node-ip {lab.address(HEAD)}"
    flags = f"server --docker --disable=traefik,servicelb {names} --tls-san spark.lan"
    install_officially(head, lab.mirror_url, "server", flags, "K3S_TOKEN=adopted\\n")
    pid = shell(head, "systemctl show -p MainPID --value k3s")
    done = product.gb10("bootstrap")
    assert (done.status, "ADOPT_FLAGS" in done.output, "spark.lan" in done.output) == (6, True, True), done.output
    assert shell(head, "systemctl show -p MainPID --value k3s") == pid
    assert product.with_data(k3s_server_config={"tls-san": ["spark.lan"]}).gb10("bootstrap").status == 0


def test_an_adoption_names_the_settings_that_would_change(
    product: Product, fresh_nodes: Any, host_of: Any, lab: Any
) -> None:
    head = host_of(HEAD)
    # The lab has no default route, so K3s cannot find the node's address itself.
    install_officially(head, lab.mirror_url, "server", f"server --node-ip {lab.address(HEAD)}", "K3S_TOKEN=adopted\\n")
    pid = shell(head, "systemctl show -p MainPID --value k3s")
    name = shell(head, "hostname").lower()
    done = product.gb10("bootstrap")
    assert done.status == 6, done.output
    for setting in ("k3s_runtime = 'containerd'", "k3s_disable = []", f"node_name = '{name}'"):
        assert setting in done.output + done.log
    assert shell(head, "systemctl show -p MainPID --value k3s") == pid
    assert head.run("sudo test -e /etc/rancher/k3s/config.yaml").rc != 0
