"""The join token is nowhere that it should not be: a canary is planted, and searched for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from product import Product, processes_showing, watched, wide_files

CANARY = "canary0815canary0815canary0815ca"
HEAD, WORKER = "spark-1", "spark-2"


def plant(host: Any) -> None:
    """The head has a token before it has anything else: the server keeps it, and every derived token holds it."""
    host.check_output(
        f"sudo sh -c 'umask 022; mkdir -p /etc/rancher/k3s; umask 077; echo {CANARY} > /etc/rancher/k3s/token'"
    )


def test_the_token_is_in_no_argument_log_diff_or_wide_file(
    product: Product, fresh_nodes: Any, host_of: Any, root_of: Any, tmp_path: Path, logs: Path
) -> None:
    plant(host_of(HEAD))
    roots = [
        root_of(name) / folder for name in (HEAD, WORKER) for folder in ("tmp", "etc/rancher", "etc/systemd/system")
    ]
    outputs = []
    with (
        watched(lambda: processes_showing(CANARY)) as arguments,
        watched(lambda: (found for root in roots for found in wide_files(root, CANARY))) as wide,
    ):
        outputs.append(product.pyinfra("-vvv", "--debug", "--dry", "--diff", "gb10.deploys.cluster"))
        outputs.append(product.gb10("bootstrap", "-vvv"))
        outputs.append(product.pyinfra("-vvv", "--debug", "--diff", "-y", "gb10.deploys.cluster"))
        outputs.append(product.pyinfra("-vvv", "--debug", "--json", "--dry", "gb10.deploys.cluster"))
        for fact in ("K3sToken", "Kubeconfig", "K3sInstall"):
            outputs.append(product.pyinfra("-vvv", "--debug", "--json", "fact", f"gb10.facts.k3s.{fact}"))
        outputs.append(product.gb10("status", "--json", "-vvv"))
        outputs.append(product.gb10("kubeconfig", "-vvv", "--output", str(tmp_path / "kubeconfig")))
        host_of(WORKER).check_output("sudo rm /etc/rancher/k3s/token")
        outputs.append(product.gb10("bootstrap", "-vvv", "--diff"))
    assert [done.output for done in outputs if done.status] == []
    assert CANARY in host_of(WORKER).check_output("sudo cat /etc/rancher/k3s/token"), "the token was not the canary"
    assert arguments == []
    assert wide == []
    assert [done.output for done in outputs if CANARY in done.output] == []
    assert [path for path in logs.rglob("*.log") if CANARY in path.read_text()] == []
    for name in (HEAD, WORKER):
        folders = ("etc", "var", "tmp", "root", "home", "usr/local")
        assert [path for folder in folders for path in wide_files(root_of(name) / folder, CANARY)] == []


def test_the_token_is_in_no_message_of_a_failed_join(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    plant(host_of(HEAD))
    assert product.gb10("bootstrap").status == 0
    host_of(WORKER).check_output(
        "sudo sh -c 'systemctl stop k3s-agent; rm -rf /var/lib/rancher; sed -i s/::/::wrong/ /etc/rancher/k3s/token;"
        " chattr +i /etc/rancher/k3s/token 2>/dev/null || mount --bind /etc/rancher/k3s/token /etc/rancher/k3s/token'"
    )
    quick = product.with_data(k3s_start_seconds=8)
    done = quick.gb10("bootstrap", "-vvv")
    host_of(WORKER).run("sudo sh -c 'chattr -i /etc/rancher/k3s/token; umount /etc/rancher/k3s/token'")
    assert done.status != 0
    assert CANARY not in done.output + done.log
