"""Bad input and bad luck: each ends with its own error code and leaves nothing half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.observe import shell, until, written_files
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
BINARY = r"/k3s$"


def assert_refused(done: Any, code: str, status: int | None = None) -> None:
    """Check that a command failed with this error code, and with this exit status, without a stack trace."""
    assert code in done.output, done.output
    assert "Traceback" not in done.output
    assert done.status != 0
    if status is not None:
        assert done.status == status, done.output


# Wrong input ---------------------------------------------------------------------------------------------------------


def test_the_error_for_an_unknown_host_lists_the_hosts(product: Product) -> None:
    done = product.gb10("bootstrap", "--limit", "spark-9")
    assert_refused(done, "HOST_UNKNOWN", 2)
    assert HEAD in done.output


def test_the_error_names_a_missing_inventory(product: Product) -> None:
    done = product.gb10("status", "-i", "no-such-inventory.py")
    assert_refused(done, "INVENTORY_MISSING", 2)
    assert "no-such-inventory.py" in done.output


def test_a_broken_inventory_has_its_own_error(product: Product) -> None:
    (product.folder / "broken.py").write_text("head = [('spark-1', {]\n")
    assert_refused(product.gb10("status", "-i", "broken.py"), "INVENTORY_BROKEN", 2)


def test_the_error_names_an_invalid_setting(product: Product) -> None:
    done = product.with_data(k3s_runtime="podman").gb10("bootstrap", "--dry-run")
    assert_refused(done, "SETTINGS_INVALID")
    assert "runtime" in done.output


# Connections ---------------------------------------------------------------------------------------------------------


def test_an_unreachable_host_has_its_own_error(product: Product) -> None:
    (product.folder / "away.py").write_text(
        "from gb10.lab.hosts import groups\n"
        "head, workers = groups()\n"
        "workers = [('spark-2', {**workers[0][1], 'ssh_port': 1, 'ssh_connect_retries': 0})]\n"
    )
    done = product.gb10("bootstrap", "-i", "away.py")
    assert_refused(done, "NODE_UNREACHABLE", 4)
    assert WORKER in done.output


def test_a_wrong_ssh_key_has_its_own_error(product: Product) -> None:
    key = product.folder / "wrong-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert_refused(product.with_data(ssh_key=str(key)).gb10("bootstrap"), "SSH_AUTH", 4)


def test_sudo_with_a_password_has_its_own_error(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    shell(host_of(WORKER), "echo 'nvidia ALL=(ALL) NOPASSWD: /bin/true, /usr/bin/mv' > /etc/sudoers.d/nvidia")
    assert_refused(product.gb10("bootstrap"), "SUDO_PASSWORD")


# Preflight checks ----------------------------------------------------------------------------------------------------


@contextmanager
def fake_command(host: Any, name: str, script: str) -> Iterator[None]:
    """Replace a command on a node by a script while the block runs."""
    host.check_output(f"sudo tee /usr/local/bin/{name} <<'SCRIPT'\n#!/bin/sh\n{script}\nSCRIPT")
    host.check_output(f"sudo chmod 755 /usr/local/bin/{name}")
    try:
        yield
    finally:
        host.check_output(f"sudo rm /usr/local/bin/{name}")


def test_an_unsupported_architecture_is_refused(product: Product, bare_nodes: None, host_of: Any) -> None:
    with fake_command(host_of(WORKER), "uname", "echo riscv64"):
        assert_refused(product.gb10("bootstrap"), "ARCH_UNSUPPORTED", 6)


def test_a_wrong_clock_is_refused(product: Product, bare_nodes: None, host_of: Any) -> None:
    with fake_command(host_of(WORKER), "date", 'exec /usr/bin/date -d "+10 minutes" "$@"'):
        done = product.gb10("bootstrap")
    assert_refused(done, "CLOCK_SKEW", 6)
    assert WORKER in done.output


def test_two_nodes_with_the_same_hostname_are_refused(product: Product, bare_nodes: None, host_of: Any) -> None:
    names = {name: shell(host_of(name), "hostname") for name in (HEAD, WORKER)}
    for name in names:
        shell(host_of(name), "hostname twin")
    assert_refused(product.gb10("bootstrap"), "DUPLICATE_HOSTNAME", 6)
    for name, hostname in names.items():
        shell(host_of(name), f"hostname {hostname}")


def test_the_error_for_a_taken_port_names_the_process(product: Product, bare_nodes: None, host_of: Any) -> None:
    shell(host_of(HEAD), "systemd-run --unit squatter python3 -m http.server 6443")
    host_of(HEAD).run("for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q 6443 && break; sleep 0.3; done")
    done = product.gb10("bootstrap")
    assert_refused(done, "PORT_TAKEN", 6)
    assert "python3" in done.output
    shell(host_of(HEAD), "systemctl stop squatter")


def test_a_node_without_docker_is_refused(product: Product, bare_nodes: None, host_of: Any) -> None:
    shell(host_of(WORKER), "systemctl stop docker.socket docker")
    assert_refused(product.gb10("bootstrap"), "DOCKER_ABSENT", 6)
    shell(host_of(WORKER), "systemctl start docker.socket docker")


# Downloads -----------------------------------------------------------------------------------------------------------


def changed_files(host: Any, before: dict[str, str]) -> set[str]:
    """Return the files written on a node since `before`, without the folders above the download."""
    touched = {"/usr/local/bin", "/usr/local", "/usr", "/"}  # overlayfs copies a folder up with the first file in it
    return {path for path, _ in before.items() ^ written_files(host).items()} - touched


def test_a_version_missing_on_the_mirror_is_refused(product: Product, bare_nodes: None, host_of: Any) -> None:
    before = written_files(host_of(HEAD))
    done = product.with_data(k3s_version="v1.36.99+k3s1").gb10("bootstrap")
    assert_refused(done, "VERSION_UNKNOWN")
    assert not host_of(HEAD).file("/usr/local/bin/k3s").exists
    assert changed_files(host_of(HEAD), before) == set()


def test_a_pinned_checksum_overrides_the_releases_list(product: Product, bare_nodes: None, host_of: Any) -> None:
    assert_refused(
        product.with_data(k3s_sha256={"v1.36.4+k3s1": {"amd64": "1" * 64}}).gb10("bootstrap"), "CHECKSUM_MISMATCH"
    )
    assert not host_of(HEAD).file("/usr/local/bin/k3s").exists


def test_the_output_names_a_log_that_only_its_owner_reads(product: Product, bare_nodes: None, logs: Path) -> None:
    done = product.with_data(k3s_version="v1.36.99+k3s1").gb10("bootstrap")
    assert "gb10: VERSION_UNKNOWN" in done.log
    assert [path for path in logs.rglob("*.log") if path.stat().st_mode & 0o077] == []


def test_a_wrong_checksum_leaves_no_file_under_the_final_name(
    product: Product, fresh_nodes: Any, host_of: Any, mirror: Any
) -> None:
    before = written_files(host_of(HEAD))
    mirror.alter(BINARY)
    assert_refused(product.gb10("bootstrap"), "CHECKSUM_MISMATCH", 5)
    assert not host_of(HEAD).file("/usr/local/bin/k3s").exists
    assert changed_files(host_of(HEAD), before) == set()
    mirror.clear()
    assert product.gb10("bootstrap").status == 0


def test_an_upgrade_with_a_wrong_checksum_changes_nothing(
    product: Product, cluster: None, host_of: Any, mirror: Any
) -> None:
    before = host_of(HEAD).file("/usr/local/bin/k3s").sha256sum
    config = host_of(HEAD).file("/etc/rancher/k3s/config.yaml").sha256sum
    mirror.alter(BINARY)
    new = product.with_data(k3s_version="v1.36.5+k3s1", k3s_server_config={"tls-san": ["spark.lan"]})
    assert_refused(new.gb10("bootstrap"), "CHECKSUM_MISMATCH", 5)
    assert host_of(HEAD).file("/usr/local/bin/k3s").sha256sum == before
    assert host_of(HEAD).file("/etc/rancher/k3s/config.yaml").sha256sum == config
    assert product.gb10("status").status == 0


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_dropped_download_is_resumed(
    product: Product, fresh_nodes: Any, host_of: Any, mirror: Any, share: float
) -> None:
    size = mirror_size(mirror)
    mirror.drop(BINARY, after_bytes=int(size * share))
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    requests = mirror.requests(BINARY)
    assert [request.range is None for request in requests] == [True, False]


def test_a_download_survives_three_503_errors(product: Product, fresh_nodes: Any, mirror: Any) -> None:
    mirror.status(BINARY, 503, times=3)
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    assert [request.status for request in mirror.requests(BINARY)] == [503, 503, 503, 200]


def mirror_size(mirror: Any) -> int:
    """Return the size in bytes of the served binary."""
    return int(mirror.size("/k3s/v1.36.4+k3s1/k3s"))


def test_a_download_to_a_full_disk_leaves_nothing_behind(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    shell(host_of(HEAD), "mount -t tmpfs -o size=100k tmpfs /usr/local/bin")
    assert_refused(product.gb10("bootstrap"), "DISK_FULL")
    assert shell(host_of(HEAD), "find /usr/local/bin -name '*.part'") == ""
    shell(host_of(HEAD), "umount /usr/local/bin")
    assert product.gb10("bootstrap").status == 0


# Joining -------------------------------------------------------------------------------------------------------------


def test_a_join_with_a_stale_token_ends_with_the_journal(product: Product, cluster: None, host_of: Any) -> None:
    shell(host_of(WORKER), "systemctl stop k3s-agent; rm -rf /var/lib/rancher/k3s/agent")
    # The server was started with another token than the one in its file, so the worker reads a stale token.
    shell(host_of(HEAD), "sed -i 's/::server:.*/::server:stale/' /var/lib/rancher/k3s/server/token")
    started = time.monotonic()
    done = product.with_data(k3s_start_seconds=10).gb10("bootstrap")
    assert_refused(done, "TOKEN_REJECTED")
    assert "401 Unauthorized" in done.output + done.log
    assert time.monotonic() - started < 90
    assert host_of(WORKER).run("systemctl is-active k3s-agent").stdout.strip() != "activating"


def test_a_worker_of_a_stopped_head_is_not_changed(product: Product, fresh_nodes: Any, host_of: Any) -> None:
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    shell(host_of(HEAD), "systemctl stop k3s")
    done = product.with_data(k3s_start_seconds=5).pyinfra("-y", f"--limit={WORKER}", "gb10.deploys.k3s_agent")
    assert "gb10: SERVER_UNREACHABLE" in done.output
    assert not host_of(WORKER).file("/usr/local/bin/k3s").exists


# Parallel and killed runs --------------------------------------------------------------------------------------------


def test_a_second_bootstrap_at_the_same_time_is_refused(product: Product, fresh_nodes: Any, mirror: Any) -> None:
    mirror.slow(BINARY, bytes_per_second=60_000)
    first = product.start("bootstrap")
    try:
        time.sleep(3)
        done = product.gb10("bootstrap")
        assert_refused(done, "LOCKED", 8)
        assert str(first.pid) in done.output
    finally:
        mirror.clear()
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert product.gb10("bootstrap").status == 0


@pytest.mark.parametrize("seconds", [1.5, 3.5, 6.0])
def test_the_next_bootstrap_completes_a_killed_one(product: Product, fresh_nodes: Any, seconds: float) -> None:
    first = product.start("bootstrap")
    time.sleep(seconds)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert product.gb10("bootstrap").status == 0
    assert product.plan() == set()


def test_an_interrupted_bootstrap_prints_the_next_command(product: Product, fresh_nodes: Any) -> None:
    first = product.start("bootstrap")
    time.sleep(3)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "gb10 bootstrap" in output
    assert product.gb10("bootstrap").status == 0


LONG_DEPLOY = """
from pyinfra.api import deploy
from pyinfra.operations import server

@deploy("As user")
def as_user() -> None:
    server.shell(name="Sleep", commands=["sleep 4711 & wait"])

@deploy("As root")
def as_root() -> None:
    server.shell(name="Sleep", commands=["sleep 4712; true"], _sudo=True)
"""
LONG_RUN = """
from gb10.controller.inventory import load_inventory
from gb10.controller.run.runner import RunLog
from gb10.controller.run.runner import Runner
import sys
result = Runner(load_inventory(sys.argv[1]), RunLog("test")).run(sys.argv[2])
sys.exit(result.error.status if result.error else 0)
"""


@pytest.mark.parametrize(("operation", "seconds"), [("long.as_user", 4711), ("long.as_root", 4712)])
def test_ctrl_c_ends_the_commands_on_the_nodes(product: Product, host_of: Any, operation: str, seconds: int) -> None:
    (product.folder / "long.py").write_text(LONG_DEPLOY)
    command = [sys.executable, "-c", LONG_RUN, str(product.inventory), operation]
    environment = {**os.environ, **product.environment}
    with subprocess.Popen(command, cwd=product.folder, env=environment) as run:
        until(lambda: all(sleeps(host_of(name), seconds) for name in (HEAD, WORKER)), 30)
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
    for name in (HEAD, WORKER):
        assert not sleeps(host_of(name), seconds), name


def sleeps(host: Any, seconds: int) -> bool:
    return bool(host.run(f"pgrep -f '[s]leep {seconds}'").rc == 0)
