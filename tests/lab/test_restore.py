"""Restores of wiped nodes: afterwards a node has its old identity for people, for ssh and for the cluster."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.probe import polled
from tests.lab.observe import ProcessScan, exposed_files, shell
from tests.lab.product import Done, Product

HEAD, WORKER = "spark-1", "spark-2"
CANARY = "canary0815canary0815canary0815ca"
PEOPLE = "useradd -m -u 1234 -s /bin/bash ada && echo ada:$(openssl passwd -6 -salt x secret) | chpasswd -e"
CLUSTER = "cd /var/lib/rancher/k3s/server && sha256sum tls/server-ca.crt token"
TIMER = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"

HostOf = Callable[[str], Any]
RootOf = Callable[[str], Path]


@pytest.fixture
def host_of(over_ssh: Any) -> Any:
    """Use SSH, which proves that the host keys are restored."""
    return over_ssh


def customize(root: Path, node: Any) -> None:
    """Change a provisioned node as an administrator might: a user, secrets, units, settings of Docker and netplan."""
    shell(node, f"id ada || {{ {PEOPLE}; }} && usermod -aG docker ada && sed -i '/of this inst/d' /etc/hosts")
    secrets = {"home/ada/.ssh/id_ed25519": 1234, "root/.docker/config.json": 0}
    for name, owner in secrets.items():
        path = root / name
        shell(
            node, f"install -d -m 700 -o {owner} {Path('/', name).parent}; install -m 600 -o {owner} /dev/null /{name}"
        )
        path.write_text(CANARY)
    # Everybody on the node can read this file, but a log must not show it: it may hold passwords of proxies.
    with (root / "etc/environment").open("a") as file:
        file.write(f"# https_proxy=http://ada:{CANARY}@198.18.0.1\n")
    (root / "etc/systemd/system/own.timer").write_text(TIMER)
    (root / "etc/systemd/system/own.service").write_text("[Service]\nExecStart=/bin/true\n")
    (root / "etc/sysctl.d/90-own.conf").write_text("net.ipv4.ip_forward = 1\n")
    shell(node, "systemctl daemon-reload && systemctl enable --now own.timer")
    daemon = json.loads((root / "etc/docker/daemon.json").read_text())
    (root / "etc/docker/daemon.json").write_text(json.dumps({**daemon, "labels": ["rack=7"]}))
    shell(node, "systemctl reload docker; sleep 1")
    rails = root / "etc/netplan/95-gb10-rails.yaml"
    rails.write_text(rails.read_text() + "# ours\n")


def identity(node: Any) -> list[str]:
    """Return a node's identity: names, host keys, users, secrets, units, settings and addresses."""
    return [
        shell(node, "hostname; cat /etc/ssh/ssh_host_*_key.pub"),
        shell(node, "id ada; getent shadow ada; stat -c '%a %u' /home/ada /home/ada/.ssh/id_ed25519"),
        shell(node, "sha256sum /home/ada/.ssh/id_ed25519 /root/.docker/config.json /etc/rancher/node/password"),
        shell(node, "systemctl is-active own.timer; sysctl -n net.ipv4.ip_forward"),
        shell(node, "docker info --format '{{.Labels}}'; tail -n 1 /etc/netplan/95-gb10-rails.yaml"),
        shell(node, "ip -br addr show enp1s0f0np0 | awk '{print $3}'; cat /etc/sudoers.d/90-gb10-nvidia"),
    ]


def objects(head: Any) -> set[str]:
    """Return the cluster's objects with their uids, which differ for a new object of the same name."""
    kinds = "nodes,namespaces,secrets,configmaps,deployments"
    found = json.loads(shell(head, f"k3s kubectl get {kinds} -A -o json"))["items"]
    return {f"{item['kind']} {item['metadata']['name']} {item['metadata']['uid']}" for item in found}


def reinstall(lab: Any, product: Product, name: str) -> None:
    """Reinstall and provision a node."""
    lab.wipe(name, trust=True)
    done = product.gb10("provision", name)
    assert done.status == 0, done.output


def restore(product: Product, name: str, *more: str) -> Done:
    done = product.gb10("restore", name, *more)
    assert done.status == 0, done.output
    return done


def test_worker_and_head_are_restored_with_their_identity(
    product: Product, cluster: Any, lab: Any, host_of: HostOf, root_of: RootOf, logs: Path
) -> None:
    done = product.gb10("provision", HEAD, WORKER)
    assert done.status == 0, done.output
    customize(root_of(WORKER), host_of(WORKER))
    shell(host_of(HEAD), "k3s kubectl get namespace kept || k3s kubectl create namespace kept")
    worker, cluster_before = identity(host_of(WORKER)), objects(host_of(HEAD))
    ca = shell(host_of(HEAD), CLUSTER)
    trusted = set(lab.state.known_hosts.read_text().splitlines())
    backup = product.gb10("backup", "--all")
    assert backup.status == 0, backup.output

    # Restore the worker with all changes.
    reinstall(lab, product, WORKER)
    assert set(lab.state.known_hosts.read_text().splitlines()) != trusted
    root = root_of(WORKER)
    # Its own files claim the host key of another node, whose lines in known_hosts must stay.
    pub = "etc/ssh/ssh_host_ed25519_key.pub"
    (root / pub).write_text((root_of(HEAD) / pub).read_text())
    (root / "etc/hosts").write_text((root / "etc/hosts").read_text() + "# of this installation\n")
    plan = product.pyinfra("--json", "--dry", "--diff", f"--limit={WORKER}", "gb10.deploys.restore")
    assert plan.status == 0, plan.output
    assert CANARY not in plan.output
    assert "/etc/hosts has other content" in plan.output
    assert "-# of this installation" in plan.output.replace("- #", "-#")
    places = [root / place for place in ("var/lib/gb10", "tmp", "root", "home")]
    with (
        polled(ProcessScan(CANARY).leaks) as leaks,
        polled(lambda: (found for place in places for found in exposed_files(place, CANARY))) as exposed,
    ):
        done = restore(product, WORKER, "-vvv")
    assert (leaks, exposed) == ([], [])
    assert CANARY not in done.output
    assert [path for path in logs.rglob("*.log") if CANARY in path.read_text()] == []
    assert set(lab.state.known_hosts.read_text().splitlines()) == trusted
    assert identity(host_of(WORKER)) == worker
    assert objects(host_of(HEAD)) >= cluster_before
    kept = shell(host_of(WORKER), "cat /etc/hosts.before-restore-*; test ! -e /var/lib/gb10/restore && echo gone")
    assert kept.splitlines()[-2:] == ["# of this installation", "gone"]

    # Restore the head, and with it the cluster.
    reinstall(lab, product, HEAD)
    restore(product, HEAD)
    head = host_of(HEAD)
    assert set(lab.state.known_hosts.read_text().splitlines()) == trusted
    assert shell(head, CLUSTER) == ca
    assert objects(head) >= cluster_before
    assert product.gb10("status").status == 0

    # Now nothing differs from the backups and from the inventory.
    assert product.plan("gb10.deploys.restore") == set()
    assert product.plan() == set()


# A cloud-init that is still running at the first four calls.
STILL_INSTALLING = (
    r"#!/bin/sh\necho >>/run/asked\n"
    r"if [ $(wc -l </run/asked) -gt 4 ]; then echo status: done; else echo status: running; fi\n"
)


def assert_refused_without_change(product: Product, node: Any, root: Path) -> None:
    """Check that a restore which must restart Docker under a serving container changes nothing."""
    daemon, hosts = root / "etc/docker/daemon.json", root / "etc/hosts"
    before = {path: path.read_text() for path in (daemon, hosts)}
    daemon.write_text(json.dumps({**json.loads(before[daemon]), "debug": True}))
    hosts.write_text(before[hosts] + "# later\n")
    shell(node, "tar -C / -c bin/busybox usr/bin/busybox | docker import - toy")
    shell(node, "docker run -d --name toy-model --network none toy /usr/bin/busybox sleep 600")
    done = product.gb10("restore", WORKER, "--only", "identity,docker", "--json")
    assert (done.status, done.json["error"]["code"]) == (6, "SERVING_RUNS"), done.output
    assert hosts.read_text() == before[hosts] + "# later\n"
    assert not (root / "var/lib/gb10/restore").exists()
    shell(node, "docker rm -f toy-model")
    for path, text in before.items():
        path.write_text(text)


def test_an_unsuitable_or_unsafe_backup_is_not_restored(
    product: Product, lab: Any, host_of: HostOf, root_of: RootOf
) -> None:
    root, node = root_of(WORKER), host_of(WORKER)
    files = {
        root / "etc/ssh/sshd_config.d/50-own.conf": "Banner none\n",
        root / "etc/netplan/60-own.yaml": "network: {}\n",
    }
    for file in files:
        file.touch(0o600)
        file.write_text("nonsense\n")
    backup = product.gb10("backup", "--all")
    assert backup.status == 0, backup.output
    for file, text in files.items():
        file.write_text(text)
    assert_refused_without_change(product, node, root)
    shell(node, f"printf '{STILL_INSTALLING}' >/usr/local/bin/cloud-init; chmod 755 /usr/local/bin/cloud-init")
    for part, code in (("identity", "SSHD_REJECTED"), ("network", "RESTORE_NETWORK")):
        done = product.gb10("restore", WORKER, "--only", part, "--json")
        assert done.json["error"]["code"] == code, done.output
    assert int(shell(node, "wc -l </run/asked; rm /usr/local/bin/cloud-init")) > 4, "nothing waited for cloud-init"
    assert {file.read_text() for file in files} == set(files.values())
    assert shell(node, "sshd -t && netplan generate && test ! -e /var/lib/gb10/restore && echo fine") == "fine"
    for file in files:
        file.unlink()

    folder = Path(product.environment["GB10_BACKUPS"])
    latest = max(path.stem for path in (folder / HEAD).glob("*Z.json"))
    other = product.gb10("restore", WORKER, "--from", latest, "--json")
    assert (other.status, other.json["error"]["code"]) == (6, "RESTORE_OTHER_NODE")
    asked = shlex.join([*product.command("gb10"), "restore", WORKER, "--from", latest])
    declined = product.run_command(["script", "--quiet", "--return", "--command", asked, "/dev/null"], stdin="n\n")
    assert ("Restore nevertheless?" in declined.output, "DECLINED" in declined.output) == (True, True), declined.output
    other = product.gb10("restore", WORKER, "--from", latest, "--accept", "RESTORE_OTHER_NODE", "--json")
    assert (other.status, other.json["error"]["code"]) == (6, "RESTORE_OTHER_MACHINE")
    archive = max((folder / WORKER).glob("*.tar.gz"))
    archive.write_bytes(archive.read_bytes()[:-1])
    damaged = product.gb10("restore", WORKER, "--json")
    assert (damaged.status, damaged.json["error"]["code"]) == (5, "BACKUP_DAMAGED")
    for path in (folder / WORKER).glob(f"{archive.name.split('.')[0]}.*"):
        path.unlink()

    lab.wipe(WORKER, trust=True)
    newer = product.with_data(k3s_version="v1.37.0+k3s1").gb10("restore", WORKER, "--json")
    assert (newer.status, newer.json["error"]["code"]) == (6, "RESTORE_K3S_VERSION"), newer.output
    assert shell(node, "test ! -e /etc/rancher && test ! -e /var/lib/gb10/restore && echo nothing") == "nothing"
    lab.wipe_all()
