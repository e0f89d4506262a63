"""The join token is nowhere that it should not be: a canary is planted, and searched for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from gb10.lab.probe import watched
from tests.lab.product import Processes, Product, wide_files

CANARY = "canary0815canary0815canary0815ca"
HEAD, WORKER = "spark-1", "spark-2"


def plant(root: Path) -> None:
    """The head has a token before it has anything else: the server keeps it, and every derived token holds it."""
    folder = root / "etc" / "rancher" / "k3s"
    folder.mkdir(parents=True)
    (folder / "token").touch(0o600)
    (folder / "token").write_text(f"{CANARY}\n")


def test_an_argument_that_shows_a_secret_is_seen_also_of_a_process_that_becomes_another_program() -> None:
    with watched(Processes(CANARY).showing) as arguments:
        script = f'sleep 1; begin={CANARY[:9]}; exec sh -c "sleep 1; true" "${{begin}}{CANARY[9:]}"'
        subprocess.run(["sh", "-c", script], check=True)
    assert [line for line in arguments if line.startswith("cmdline: sh")]


def test_the_token_is_in_no_argument_log_diff_or_wide_file(
    product: Product, fresh_nodes: Any, host_of: Any, root_of: Any, tmp_path: Path, logs: Path
) -> None:
    plant(root_of(HEAD))
    roots = [
        root_of(name) / folder for name in (HEAD, WORKER) for folder in ("tmp", "etc/rancher", "etc/systemd/system")
    ]
    outputs = []
    with (
        watched(Processes(CANARY).showing) as arguments,
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


def test_the_token_is_in_no_message_of_a_failed_join(
    product: Product, fresh_nodes: Any, host_of: Any, root_of: Any
) -> None:
    plant(root_of(HEAD))
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    # What the head hands out is no longer what its server was started with.
    host_of(HEAD).check_output("sudo sed -i 's/$/stale/' /var/lib/rancher/k3s/server/token")
    done = product.with_data(k3s_start_seconds=8).gb10("bootstrap", "-vvv")
    assert "TOKEN_REJECTED" in done.output
    assert CANARY not in done.output + done.log
