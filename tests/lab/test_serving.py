"""Serving: switches between modes, their status, and refusals. Checked over HTTP and with docker ps."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gb10.lab import serving as served
from gb10.lab.probe import gaps, polled, probed, served_model
from tests.lab.conftest import LabUnderTest
from tests.lab.observe import ProcessScan
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
PORT = 8000
LOAD_SECONDS = 2.5  # of the stand-in for vLLM
FAULT = "/run/gb10-lab/vllm"
KEY, KEY_FILE = "c4n4ry", "/etc/vllm.env"
DEPLOY = "gb10.deploys.serving"
# Starts a container that gb10 does not know.
OPTIONS = f"{shlex.join(served.INVENTORY['serving_options'])} -e HF_HOME={served.HOME} -v {served.HOME}:{served.HOME}"
THEIRS = f"sudo docker run -d --name theirs {OPTIONS}"


@pytest.fixture
def nodes(lab: LabUnderTest, host_of: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Both nodes with models and image, without any container."""
    hosts = {name: host_of(name) for name in (HEAD, WORKER)}
    if any(host.file("/usr/local/bin/k3s").exists for host in hosts.values()):
        lab.wipe_all()

    def remove_containers() -> None:
        for host in hosts.values():
            host.check_output(
                f"sudo rm -f {FAULT} {KEY_FILE} {served.HOME}/token; sudo docker ps -aq | xargs -r sudo docker rm -f"
            )

    remove_containers()
    for name in hosts:
        lab.lab.download(name)
    yield hosts
    remove_containers()


def containers(host: Any) -> dict[str, str]:
    """Return the ids of the running containers, by name."""
    lines = host.check_output("sudo docker ps --no-trunc --format '{{.Names}} {{.ID}}'").splitlines()
    return dict(line.split() for line in lines)


def test_a_switch_makes_one_gap_and_a_second_run_none(
    nodes: dict[str, Any], product: Product, lab: LabUnderTest
) -> None:
    addresses = [lab.address(HEAD), lab.address(WORKER)]
    for host in nodes.values():
        host.check_output(f"umask 077; echo VLLM_API_KEY={KEY} | sudo install -m 0600 /dev/stdin {KEY_FILE}")
    keyed = product.with_data(serving_env_file=KEY_FILE)
    wanted = product.with_data(serving_env_file=KEY_FILE, serving_mode="cluster")
    planned = wanted.plan(DEPLOY)
    assert wanted.run(DEPLOY) == planned
    assert served_model(addresses[0], KEY) == served.CLUSTER_MODEL
    assert wanted.run(DEPLOY) == set()

    with probed(addresses, KEY) as seen:
        done = keyed.gb10("serving", "solo", WORKER, "-vvv")
    assert done.status == 0, done.output
    assert KEY not in done.output + done.log
    assert served_model(addresses[1], KEY) == served.SOLO_MODEL
    assert f"http://{addresses[1]}:{PORT}/v1" in done.output
    assert f"It was at http://{addresses[0]}:{PORT}/v1" in done.output
    assert len(gaps(seen)) == 1
    assert gaps(seen)[0] < LOAD_SECONDS + 6  # about 0.7 s on a quiet machine; other labs are busy beside this one
    assert [list(containers(nodes[name])) for name in (HEAD, WORKER)] == [[], ["gb10-serving-solo"]]

    status = keyed.gb10("status", "--json").json
    assert (status["serving"]["mode"], status["serving"]["node"], status["healthy"]) == ("solo", WORKER, True)


def test_a_container_neither_writes_models_nor_sees_the_token(
    nodes: dict[str, Any], product: Product, lab: LabUnderTest
) -> None:
    head, address = nodes[HEAD], lab.address(HEAD)
    head.check_output(f"sudo sh -c 'umask 077; echo hf_{KEY} > {served.HOME}/token'")
    assert product.gb10("serving", "solo", HEAD).status == 0
    inside = "sudo docker exec gb10-serving-solo"
    assert "Read-only file system" in head.run(f"{inside} touch {served.HOME}/hub/new").stderr
    assert head.check_output(f"{inside} sh -c 'ls -a {served.HOME}; env'").count(KEY) == 0
    assert head.run(f"{inside} ls {served.HOME}/token").rc != 0
    assert head.check_output(f"ss -Hltn sport = :{PORT}").split()[3] == f"{address}:{PORT}"
    status = product.gb10("status", "--json").json["serving"]
    assert (status["healthy"], status["warnings"]) == (
        True,
        [f"open: anybody who reaches {address}:{PORT} may use it"],
    )
    assert product.gb10("serving", "solo", HEAD).status == 0

    mounting = [*served.INVENTORY["serving_options"], "--volume", f"{served.HOME}:{served.HOME}"]
    own = product.with_data(serving_options=mounting, serving_listen="127.0.0.1")
    assert own.gb10("serving", "solo", HEAD).status == 0
    assert served_model(address) is None
    shown = own.gb10("serving", "show").output
    assert f"gb10-serving-solo on {HEAD} may write the models" in shown
    assert "open:" not in shown


def test_a_key_in_a_file_closes_the_api(nodes: dict[str, Any], product: Product, lab: LabUnderTest) -> None:
    head, address = nodes[HEAD], lab.address(HEAD)
    closed = product.with_data(serving_api_key_file=KEY_FILE)
    refused = closed.gb10("serving", "solo", HEAD)
    assert (refused.status, f"it has no {KEY_FILE}" in refused.output) == (6, True), refused.output
    head.check_output(f"echo {KEY} | sudo install -m 0644 /dev/stdin {KEY_FILE}")
    assert f"others may read {KEY_FILE}" in closed.gb10("serving", "solo", HEAD).output
    head.check_output(f"sudo chmod 600 {KEY_FILE}")
    with polled(ProcessScan(KEY).leaks) as leaks:
        done = closed.gb10("serving", "solo", HEAD, "-vvv")
    assert done.status == 0, done.output
    assert KEY not in done.output + done.log
    assert [leak for leak in leaks if leak.startswith("cmdline")] == []
    assert (served_model(address), served_model(address, KEY)) == (None, served.SOLO_MODEL)
    status = closed.gb10("status")
    assert (status.status, "open:" in status.output) == (0, False), status.output


def test_a_refused_switch_leaves_the_model_serving(nodes: dict[str, Any], product: Product) -> None:
    assert product.gb10("serving", "solo", HEAD).status == 0
    before = containers(nodes[HEAD])
    nodes[WORKER].check_output(f"sudo rm -r {served.HOME}/hub/models--gb10-lab--large")
    refused = product.gb10("serving", "cluster")
    assert (refused.status, "SERVING_NOT_READY" in refused.output) == (6, True), refused.output

    nodes[WORKER].check_output(f"{THEIRS} -e VLLM_API_KEY={KEY} {served.IMAGE} sleep infinity")
    assert product.gb10("serving", "show", "--json").json["serving"]["mode"] == "undecided"
    engine = f"vllm serve {served.SOLO_MODEL} -tp 2 --nnodes=2 --master-addr 127.0.0.1 --api-key {KEY}"
    nodes[WORKER].check_output(f"sudo docker exec -d theirs {engine}")
    refused = product.gb10("serving", "off", "-vvv")
    assert (refused.status, "SERVING_FOREIGN" in refused.output) == (6, True), refused.output
    assert "theirs serves (cluster)" in refused.output
    assert KEY not in refused.output + refused.log
    assert containers(nodes[HEAD]) == before
    assert list(containers(nodes[WORKER])) == ["theirs"]


def test_a_crash_a_hang_and_a_lost_peer_are_reported(nodes: dict[str, Any], product: Product) -> None:
    nodes[HEAD].check_output(f"sudo mkdir -p /run/gb10-lab && echo crash | sudo tee {FAULT}")
    failed = product.gb10("serving", "cluster")
    assert (failed.status, "SERVING_FAILED" in failed.output) == (5, True), failed.output
    assert "CUDA error" in failed.output  # the engine's last line
    nodes[HEAD].check_output(f"sudo rm {FAULT}")
    assert product.gb10("serving", "cluster").status == 0

    nodes[HEAD].check_output(f"echo hang | sudo tee {FAULT}")
    hung = product.with_data(serving_completion_seconds=1).gb10("serving", "show")
    assert (hung.status, "it completes no prompt" in hung.output) == (5, True), hung.output
    nodes[HEAD].check_output(f"sudo rm {FAULT}")

    nodes[WORKER].check_output("sudo docker kill gb10-serving-cluster")
    deadline = time.monotonic() + 15
    while containers(nodes[HEAD]) and time.monotonic() < deadline:
        time.sleep(0.2)
    status = product.gb10("status")
    assert (status.status, "ended with status 1" in status.output) == (5, True), status.output


def test_a_launcher_has_its_own_start_and_stop_commands(nodes: dict[str, Any], product: Product) -> None:
    own = {
        "models": [served.SOLO_MODEL],
        "start": f'{THEIRS} {served.IMAGE} vllm serve "$GB10_MODEL" --port "$GB10_PORT"',
        "stop": "docker rm -f theirs",
    }
    launcher = product.with_data(serving_modes={"solo": own})
    done = launcher.gb10("serving", "solo", HEAD)
    assert done.status == 0, done.output
    assert list(containers(nodes[HEAD])) == ["theirs"]
    assert launcher.gb10("serving", "off").status == 0
    assert containers(nodes[HEAD]) == {}
