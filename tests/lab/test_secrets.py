"""The join token does not leak: the tests use a canary as the token and search for it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from gb10.lab.probe import polled
from tests.lab.observe import ProcessScan, exposed_files
from tests.lab.product import Product

CANARY = "canary0815canary0815canary0815ca"
HEAD, WORKER = "spark-1", "spark-2"


def plant_canary(root: Path) -> None:
    """Give the head a token before anything else. The server keeps it, and every derived token contains it."""
    folder = root / "etc" / "rancher" / "k3s"
    folder.mkdir(parents=True)
    (folder / "token").touch(0o600)
    (folder / "token").write_text(f"{CANARY}\n")


def test_the_scan_finds_a_secret_in_an_argument_after_exec() -> None:
    with polled(ProcessScan(CANARY).leaks) as leaks:
        script = f'sleep 1; begin={CANARY[:9]}; exec sh -c "sleep 1; true" "${{begin}}{CANARY[9:]}"'
        subprocess.run(["sh", "-c", script], check=True)
    assert [line for line in leaks if line.startswith("cmdline: sh")]


def test_the_token_is_in_no_argument_log_diff_or_exposed_file(
    product: Product, fresh_nodes: Any, host_of: Any, root_of: Any, tmp_path: Path, logs: Path
) -> None:
    plant_canary(root_of(HEAD))
    roots = [
        root_of(name) / folder for name in (HEAD, WORKER) for folder in ("tmp", "etc/rancher", "etc/systemd/system")
    ]
    outputs = []
    with (
        polled(ProcessScan(CANARY).leaks) as leaks,
        polled(lambda: (found for root in roots for found in exposed_files(root, CANARY))) as exposed,
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
    assert CANARY in host_of(WORKER).check_output("sudo cat /etc/rancher/k3s/token"), "the token is not the canary"
    assert leaks == []
    assert exposed == []
    assert [done.output for done in outputs if CANARY in done.output] == []
    assert [path for path in logs.rglob("*.log") if CANARY in path.read_text()] == []
    for name in (HEAD, WORKER):
        folders = ("etc", "var", "tmp", "root", "home", "usr/local")
        assert [path for folder in folders for path in exposed_files(root_of(name) / folder, CANARY)] == []


def test_the_token_is_in_no_message_of_a_failed_join(
    product: Product, fresh_nodes: Any, host_of: Any, root_of: Any
) -> None:
    plant_canary(root_of(HEAD))
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    # The head's token file has no longer the token that its server was started with.
    host_of(HEAD).check_output("sudo sed -i 's/$/stale/' /var/lib/rancher/k3s/server/token")
    done = product.with_data(k3s_start_seconds=8).gb10("bootstrap", "-vvv")
    assert "TOKEN_REJECTED" in done.output
    assert CANARY not in done.output + done.log


OTHERS = {
    "etc/docker/daemon.json": f'{{"labels": ["https_proxy=http://anna:{CANARY}@proxy:3128"]}}\n',
    "etc/environment": f'HTTPS_PROXY="http://anna:{CANARY}@proxy:3128"\nMY_API_KEY={CANARY}\n',
    "etc/netplan/95-gb10-rails.yaml": (
        "network:\n  wifis:\n    wlp9s0:\n      dhcp4: true\n"
        f'      access-points:\n        home:\n          password: "{CANARY}"\n'
    ),
}


def test_secrets_of_others_are_shown_nowhere(
    product: Product, fresh_nodes: Any, host_of: Any, root_of: Any, logs: Path
) -> None:
    root, node = root_of(HEAD), host_of(HEAD)
    for name, text in OTHERS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        (root / name).touch(0o600)
        (root / name).write_text(text)
    kept = "sudo chgrp adm /etc/docker/daemon.json /etc/environment; sudo stat -c '%n %a %U:%G' " + " ".join(
        f"/{name}" for name in OTHERS
    )
    before = node.check_output(kept)
    node.check_output("sudo systemctl restart docker")
    relabelled = product.with_data(node_docker_config={"labels": [f"token={CANARY}"], "debug": True})
    outputs = []
    with (
        polled(ProcessScan(CANARY).leaks) as leaks,
        polled(lambda: exposed_files(root / "etc", CANARY)) as exposed,
    ):
        outputs.append(product.pyinfra("-vvv", "--debug", "--dry", "--diff", f"--limit={HEAD}", "gb10.deploys.node"))
        outputs.append(product.gb10("provision", HEAD, "--diff", "-vvv"))
        outputs.append(relabelled.pyinfra("-vvv", "--debug", "--diff", "-y", f"--limit={HEAD}", "gb10.deploys.node"))
    assert [done.output for done in outputs if done.status] == []
    assert f"token={CANARY}" in node.check_output("sudo cat /etc/docker/daemon.json")
    assert "HF_HOME" in node.check_output("sudo cat /etc/environment")
    assert [done.output for done in outputs if CANARY in done.output or CANARY in done.log] == []
    assert [path for path in logs.rglob("*.log") if CANARY in path.read_text()] == []
    # Every session has the variables of /etc/environment.
    assert [leak for leak in leaks if leak.startswith("cmdline")] == []
    assert exposed == []
    assert node.check_output(kept) == before
