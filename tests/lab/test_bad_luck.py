"""Bad input and bad luck: each ends with its own code, and with nothing half-done or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.product import Product, written_files

HEAD, WORKER = "spark-1", "spark-2"
BINARY = r"/k3s$"


def refused(done: Any, code: str, status: int | None = None) -> None:
    """The command ended with this code, told what to type next, and showed no stack trace."""
    assert code in done.output, done.output
    assert "Traceback" not in done.output
    assert done.status != 0
    if status is not None:
        assert done.status == status, done.output


def sh(host: Any, command: str) -> str:
    return str(host.check_output(f"sudo sh -c {json.dumps(command)}"))


# What a person typed -------------------------------------------------------------------------------------------------


def test_an_unknown_host_is_named_with_those_that_there_are(product: Product) -> None:
    done = product.gb10("bootstrap", "--limit", "spark-9")
    refused(done, "HOST_UNKNOWN", 2)
    assert HEAD in done.output


def test_a_missing_inventory_is_named(product: Product) -> None:
    done = product.gb10("status", "-i", "no-such-inventory.py")
    refused(done, "INVENTORY_MISSING", 2)
    assert "no-such-inventory.py" in done.output


def test_a_broken_inventory_is_quoted(product: Product) -> None:
    (product.folder / "broken.py").write_text("head = [('spark-1', {]\n")
    refused(product.gb10("status", "-i", "broken.py"), "INVENTORY_BROKEN", 2)


def test_a_setting_that_cannot_be_is_named(product: Product) -> None:
    done = product.with_data(k3s_runtime="podman").gb10("bootstrap", "--dry-run")
    refused(done, "SETTINGS_INVALID")
    assert "runtime" in done.output


# The way to a node ---------------------------------------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_is_an_error_of_its_own(product: Product) -> None:
    (product.folder / "away.py").write_text(
        "from gb10.lab.hosts import groups\n"
        "head, workers = groups()\n"
        "workers = [('spark-2', {**workers[0][1], 'ssh_port': 1, 'ssh_connect_retries': 0})]\n"
    )
    done = product.gb10("bootstrap", "-i", "away.py")
    refused(done, "NODE_UNREACHABLE", 4)
    assert WORKER in done.output


def test_a_wrong_key_is_an_error_of_its_own(product: Product) -> None:
    key = product.folder / "wrong-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    refused(product.with_data(ssh_key=str(key)).gb10("bootstrap"), "SSH_AUTH", 4)


def test_a_sudo_that_asks_for_a_password_is_an_error_of_its_own(
    product: Product, fresh_nodes: Any, host_of: Any
) -> None:
    sh(host_of(WORKER), "echo 'nvidia ALL=(ALL) NOPASSWD: /bin/true, /usr/bin/mv' > /etc/sudoers.d/nvidia")
    refused(product.gb10("bootstrap"), "SUDO_PASSWORD")


# What preflight refuses, before anything is changed ------------------------------------------------------------------


@contextmanager
def faked(host: Any, name: str, script: str) -> Iterator[None]:
    """On a node, a command tells something else while the block runs."""
    host.check_output(f"sudo tee /usr/local/bin/{name} <<'SCRIPT'\n#!/bin/sh\n{script}\nSCRIPT")
    host.check_output(f"sudo chmod 755 /usr/local/bin/{name}")
    try:
        yield
    finally:
        host.check_output(f"sudo rm /usr/local/bin/{name}")


def test_an_unsupported_architecture_is_refused(product: Product, untouched_nodes: None, host_of: Any) -> None:
    with faked(host_of(WORKER), "uname", "echo riscv64"):
        refused(product.gb10("bootstrap"), "ARCH_UNSUPPORTED", 6)


def test_a_clock_that_is_far_off_is_refused(product: Product, untouched_nodes: None, host_of: Any) -> None:
    with faked(host_of(WORKER), "date", 'exec /usr/bin/date -d "+10 minutes" "$@"'):
        done = product.gb10("bootstrap")
    refused(done, "CLOCK_SKEW", 6)
    assert WORKER in done.output


def test_two_nodes_with_one_hostname_are_refused(product: Product, untouched_nodes: None, host_of: Any) -> None:
    names = {name: sh(host_of(name), "hostname") for name in (HEAD, WORKER)}
    for name in names:
        sh(host_of(name), "hostname twin")
    refused(product.gb10("bootstrap"), "DUPLICATE_HOSTNAME", 6)
    for name, hostname in names.items():
        sh(host_of(name), f"hostname {hostname}")


def test_a_taken_port_is_refused_with_the_process_that_holds_it(
    product: Product, untouched_nodes: None, host_of: Any
) -> None:
    sh(host_of(HEAD), "systemd-run --unit squatter python3 -m http.server 6443")
    host_of(HEAD).run("for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q 6443 && break; sleep 0.3; done")
    done = product.gb10("bootstrap")
    refused(done, "PORT_TAKEN", 6)
    assert "python3" in done.output
    sh(host_of(HEAD), "systemctl stop squatter")


def test_a_node_without_docker_is_refused(product: Product, untouched_nodes: None, host_of: Any) -> None:
    sh(host_of(WORKER), "systemctl stop docker.socket docker")
    refused(product.gb10("bootstrap"), "DOCKER_ABSENT", 6)
    sh(host_of(WORKER), "systemctl start docker.socket docker")


# Downloads -----------------------------------------------------------------------------------------------------------


def changed_files(host: Any, before: dict[str, str]) -> set[str]:
    """What was written on a node since, but for the folders in which a download was begun and thrown away."""
    passed = {"/usr/local/bin", "/usr/local", "/usr", "/"}  # overlayfs copies the upper ones with the first of below
    return {path for path, _ in before.items() ^ written_files(host).items()} - passed


def test_a_version_that_the_mirror_does_not_have_is_refused(
    product: Product, untouched_nodes: None, host_of: Any
) -> None:
    before = written_files(host_of(HEAD))
    done = product.with_data(k3s_version="v1.36.99+k3s1").gb10("bootstrap")
    refused(done, "VERSION_UNKNOWN")
    assert not host_of(HEAD).file("/usr/local/bin/k3s").exists
    assert changed_files(host_of(HEAD), before) == set()


def test_a_pin_beats_the_releases_own_list(product: Product, untouched_nodes: None, host_of: Any) -> None:
    refused(product.with_data(k3s_sha256={"v1.36.4+k3s1": {"amd64": "1" * 64}}).gb10("bootstrap"), "CHECKSUM_MISMATCH")
    assert not host_of(HEAD).file("/usr/local/bin/k3s").exists


def test_the_log_is_named_and_nobody_elses_to_read(product: Product, untouched_nodes: None, logs: Path) -> None:
    done = product.with_data(k3s_version="v1.36.99+k3s1").gb10("bootstrap")
    assert "gb10: VERSION_UNKNOWN" in done.log
    assert [path for path in logs.rglob("*.log") if path.stat().st_mode & 0o077] == []


def test_a_wrong_checksum_leaves_no_file_under_the_final_name(
    product: Product, fresh_nodes: Any, host_of: Any, mirror: Any
) -> None:
    before = written_files(host_of(HEAD))
    mirror.alter(BINARY)
    refused(product.gb10("bootstrap"), "CHECKSUM_MISMATCH", 5)
    assert not host_of(HEAD).file("/usr/local/bin/k3s").exists
    assert changed_files(host_of(HEAD), before) == set()
    mirror.clear()
    assert product.gb10("bootstrap").status == 0


def test_a_wrong_checksum_of_an_upgrade_leaves_the_old_binary_running(
    product: Product, cluster: None, host_of: Any, mirror: Any
) -> None:
    before = host_of(HEAD).file("/usr/local/bin/k3s").sha256sum
    config = host_of(HEAD).file("/etc/rancher/k3s/config.yaml").sha256sum
    mirror.alter(BINARY)
    new = product.with_data(k3s_version="v1.36.5+k3s1", k3s_server_config={"tls-san": ["spark.lan"]})
    refused(new.gb10("bootstrap"), "CHECKSUM_MISMATCH", 5)
    assert host_of(HEAD).file("/usr/local/bin/k3s").sha256sum == before
    assert host_of(HEAD).file("/etc/rancher/k3s/config.yaml").sha256sum == config
    assert product.gb10("status").status == 0


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_dropped_connection_is_resumed(
    product: Product, fresh_nodes: Any, host_of: Any, mirror: Any, share: float
) -> None:
    size = mirror_size(mirror)
    mirror.drop(BINARY, after_bytes=int(size * share))
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    requests = mirror.requests(BINARY)
    assert [request.range is None for request in requests] == [True, False]


def test_three_503s_are_survived(product: Product, fresh_nodes: Any, mirror: Any) -> None:
    mirror.status(BINARY, 503, times=3)
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    assert [request.status for request in mirror.requests(BINARY)] == [503, 503, 503, 200]


def mirror_size(mirror: Any) -> int:
    """How large the served binary is."""
    return int(mirror.size("/k3s/v1.36.4+k3s1/k3s"))


def test_a_full_disk_during_the_download_is_told_and_the_room_is_given_back(
    product: Product, fresh_nodes: Any, host_of: Any
) -> None:
    sh(host_of(HEAD), "mount -t tmpfs -o size=100k tmpfs /usr/local/bin")
    refused(product.gb10("bootstrap"), "DISK_FULL")
    assert sh(host_of(HEAD), "find /usr/local/bin -name '*.part'") == ""
    sh(host_of(HEAD), "umount /usr/local/bin")
    assert product.gb10("bootstrap").status == 0


# Joining -------------------------------------------------------------------------------------------------------------


def test_a_token_that_the_server_does_not_know_ends_the_join_with_its_journal(
    product: Product, cluster: None, host_of: Any
) -> None:
    sh(host_of(WORKER), "systemctl stop k3s-agent; rm -rf /var/lib/rancher/k3s/agent")
    # The head's files say one token, its server was started with another: what the worker reads is stale.
    sh(host_of(HEAD), "sed -i 's/::server:.*/::server:stale/' /var/lib/rancher/k3s/server/token")
    started = time.monotonic()
    done = product.with_data(k3s_start_seconds=10).gb10("bootstrap")
    refused(done, "TOKEN_REJECTED")
    assert "401 Unauthorized" in done.output + done.log
    assert time.monotonic() - started < 90
    assert host_of(WORKER).run("systemctl is-active k3s-agent").stdout.strip() != "activating"


def test_a_head_that_is_down_stops_the_worker_before_anything_is_written(
    product: Product, fresh_nodes: Any, host_of: Any
) -> None:
    assert product.gb10("bootstrap", "--limit", HEAD).status == 0
    sh(host_of(HEAD), "systemctl stop k3s")
    done = product.with_data(k3s_start_seconds=5).pyinfra("-y", f"--limit={WORKER}", "gb10.deploys.k3s_agent")
    assert "gb10: SERVER_UNREACHABLE" in done.output
    assert not host_of(WORKER).file("/usr/local/bin/k3s").exists


# Two at once, and the end of one -------------------------------------------------------------------------------------


def test_a_second_bootstrap_beside_a_running_one_is_refused_and_told_who(
    product: Product, fresh_nodes: Any, mirror: Any
) -> None:
    mirror.slow(BINARY, bytes_per_second=60_000)
    first = product.start("bootstrap")
    try:
        time.sleep(3)
        done = product.gb10("bootstrap")
        refused(done, "LOCKED", 8)
        assert str(first.pid) in done.output
    finally:
        mirror.clear()
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert product.gb10("bootstrap").status == 0


@pytest.mark.parametrize("seconds", [1.5, 3.5, 6.0])
def test_a_killed_bootstrap_is_gone_on_with_by_the_next_one(product: Product, fresh_nodes: Any, seconds: float) -> None:
    first = product.start("bootstrap")
    time.sleep(seconds)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert product.gb10("bootstrap").status == 0
    assert product.plan() == set()


def test_an_interrupted_bootstrap_says_so_and_what_to_type(product: Product, fresh_nodes: Any) -> None:
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
from gb10.controller.run.log import RunLog
from gb10.controller.run.runner import Runner
import sys
result = Runner(load_inventory(sys.argv[1]), RunLog("test")).run(sys.argv[2])
sys.exit(result.error.status if result.error else 0)
"""


@pytest.mark.parametrize(("operation", "seconds"), [("long.as_user", 4711), ("long.as_root", 4712)])
def test_what_runs_on_the_nodes_ends_on_ctrl_c(product: Product, host_of: Any, operation: str, seconds: int) -> None:
    (product.folder / "long.py").write_text(LONG_DEPLOY)
    command = [sys.executable, "-c", LONG_RUN, str(product.inventory), operation]
    environment = {**os.environ, **product.environment}
    with subprocess.Popen(command, cwd=product.folder, env=environment) as run:
        assert until(lambda: all(asleep(host_of(name), seconds) for name in (HEAD, WORKER)), 30)
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
    for name in (HEAD, WORKER):
        assert not asleep(host_of(name), seconds), name


def asleep(host: Any, seconds: int) -> bool:
    return bool(host.run(f"pgrep -f '[s]leep {seconds}'").rc == 0)


def until(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
