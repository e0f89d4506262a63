"""What `gb10 validate` proves and finds on lab nodes, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gb10.controller.cluster.validate import CHECKS, Check, Validation
from gb10.lab.hosts import NODE_TOOLS
from tests.lab.observe import shell, until
from tests.lab.product import Done, Product

HEAD, WORKER = "spark-1", "spark-2"
RAILS = {"a": "enp1s0f0np0", "b": "enP2p1s0f0np0"}
IMAGE = "rancher/mirrored-pause:lab"
BOTH = {"gpu_operator_enabled": True, "network_operator_enabled": True}
QUICK = {"validate_bandwidth_seconds": 1, "node_rails_mtu": 1500}
ALL_BUT_CONTAINER = [word for name in CHECKS if name != "gpu-container" for word in ("--skip", name)]
ALL_BUT_RAILS = [word for name in CHECKS if not name.startswith("rail") for word in ("--skip", name)]


def validation(done: Done) -> Validation:
    found = Validation.model_validate(done.json["validation"])
    error = done.json["error"]
    assert (error is None) == (found.outcome == "pass") == (done.status == 0), done.output
    assert done.status in (0, 5)
    return found


def run(product: Product, *arguments: str) -> Validation:
    return validation(product.gb10("validate", "--json", *arguments))


def outcomes(found: Validation, name: str) -> dict[str | None, str]:
    """Return the worst outcome of a check on each node."""
    worst = sorted((check for check in found.checks if check.check == name), key=lambda check: check.outcome == "fail")
    return {check.node: check.outcome for check in worst}


def failed(found: Validation) -> list[Check]:
    return [check for check in found.checks if check.outcome == "fail"]


def leftovers(host: Any) -> str:
    """Return the units, containers and listeners of a validation on a node."""
    units = "systemctl list-units --all --no-legend 'gb10-validate*'"
    containers = "docker ps -a --filter name=gb10-validate --format '{{.Names}}'"
    return shell(host, f"{units}; {containers}; ss -H -l -t -n '( sport = :8880 or sport = :8881 )'")


@contextmanager
def mtu_of_rail_a(host: Any, mtu: int) -> Iterator[None]:
    """Change the MTU of a node's rail a while the block runs."""
    before = shell(host, f"cat /sys/class/net/{RAILS['a']}/mtu")
    shell(host, f"ip link set {RAILS['a']} mtu {mtu}")
    try:
        yield
    finally:
        shell(host, f"ip link set {RAILS['a']} mtu {before}")


@pytest.fixture
def ready(whole: Product, lab: Any) -> Product:
    """The product on a cluster with both operators. It measures each rail for one second."""
    product = whole.with_data(**BOTH, **QUICK)
    status = product.gb10("status", "--json").json
    operators = [status["gpu_operator"] or {}, status["network_operator"] or {}]
    complete = status["healthy"] and all(operator.get("ready") for operator in operators)
    if not complete and product.gb10("bootstrap").status != 0:
        lab.wipe_all()
        done = product.gb10("bootstrap")
        assert done.status == 0, done.output
    return product


@pytest.fixture
def nodes(host_of: Any) -> list[Any]:
    return [host_of(HEAD), host_of(WORKER)]


@pytest.fixture(autouse=True)
def clean(nodes: list[Any]) -> Iterator[None]:
    """Check after every test that the validation has left nothing on the nodes."""
    yield
    for node in nodes:
        assert leftovers(node) == ""


def test_a_working_cluster_passes_every_check(ready: Product) -> None:
    done = ready.gb10("validate", "--json")
    found = validation(done)
    assert {check.check for check in found.checks} == CHECKS.keys() - {"nccl"}
    rates = [check for check in found.checks if check.check == "rail-bandwidth"]
    ways = [(check.node, check.peer, check.rail) for check in rates]
    assert ways == [(HEAD, WORKER, "a"), (HEAD, WORKER, "b"), (WORKER, HEAD, "a"), (WORKER, HEAD, "b")]
    assert all(check.measured_gbps and check.measured_gbps > 0.5 for check in rates)
    assert all("Gb/s by ib_write_bw, the link says 10" in check.reason for check in rates)
    # The speed of the rails depends on this machine's load.
    assert {check.outcome for check in found.checks if check not in rates} == {"pass"}, failed(found)
    assert {check.code for check in rates} <= {None, "RAIL_SLOW"}


def test_the_output_shows_each_check_with_its_remedy(ready: Product, nodes: list[Any]) -> None:
    with mtu_of_rail_a(nodes[1], 1500):
        done = ready.with_data(**BOTH, **{**QUICK, "node_rails_mtu": 9000}).gb10("validate", WORKER)
    assert done.status == 5
    assert "✓ gpu-container     spark-2" in done.stdout
    assert "spark-2 → spark-1 a" in done.stdout
    assert f"{RAILS['a']} of spark-2 has MTU 1500, not 9000" in done.stdout
    assert "gb10 provision spark-2" in done.stdout
    assert "VALIDATION_FAILED" in done.output


def test_only_a_pulled_rail_fails(ready: Product, lab: Any) -> None:
    lab.lab.rail(WORKER, "b", plugged=False)
    try:
        found = run(ready)
    finally:
        lab.lab.rail(WORKER, "b", plugged=True)
    assert outcomes(found, "rails") == {HEAD: "pass", WORKER: "fail"}
    lost = [check for check in failed(found) if check.check == "rail-bandwidth" and check.rail == "b"]
    assert {(check.node, check.code) for check in lost} == {(HEAD, "RAIL_FAULT"), (WORKER, "RAIL_FAULT")}
    assert all(check.remedy for check in failed(found))
    assert [check for check in found.checks if check.rail == "a" and check.measured_gbps]
    assert set(outcomes(found, "gpu-container").values()) == {"pass"}


def test_an_mtu_mismatch_is_found(ready: Product, nodes: list[Any]) -> None:
    with mtu_of_rail_a(nodes[0], 4000), mtu_of_rail_a(nodes[1], 1400):
        found = run(ready.with_data(**BOTH, validate_bandwidth_seconds=1, node_rails=False), HEAD)
    packets = {check.rail: check for check in found.checks if check.check == "rail-mtu"}
    assert (packets["a"].outcome, packets["a"].code) == ("fail", "RAIL_FAULT")
    assert packets["a"].reason.startswith("packets of 4000 bytes do not arrive")
    assert packets["b"].outcome == "pass"


def test_only_a_node_without_a_gpu_fails(ready: Product, nodes: list[Any]) -> None:
    shell(nodes[1], "mkdir -p /etc/gb10-lab && touch /etc/gb10-lab/no-gpu")
    try:
        found = run(ready, *ALL_BUT_CONTAINER)
    finally:
        shell(nodes[1], "rm /etc/gb10-lab/no-gpu")
    assert outcomes(found, "gpu-container") == {HEAD: "pass", WORKER: "fail"}
    (check,) = failed(found)
    assert check.code == "GPU_CONTAINER_FAILED"
    assert "driver not loaded" in check.reason


def test_without_connectx7_the_rail_checks_are_skipped(ready: Product, nodes: list[Any]) -> None:
    for node in nodes:
        shell(node, "mkdir -p /etc/gb10-lab && touch /etc/gb10-lab/no-cx7")
    try:
        found = run(ready, *ALL_BUT_RAILS)
        rest = ready.gb10("validate", *ALL_BUT_CONTAINER)
    finally:
        for node in nodes:
            shell(node, "rm /etc/gb10-lab/no-cx7")
    assert found.outcome == "skip"
    assert outcomes(found, "rails") == outcomes(found, "rail-bandwidth") == {HEAD: "skip", WORKER: "skip"}
    assert rest.status == 0, rest.output
    assert "2 passed, 0 failed, 0 could not run" in rest.stdout


def test_rails_are_measured_by_tcp_without_rdma(ready: Product, nodes: list[Any]) -> None:
    shell(nodes[1], "touch /etc/gb10-lab/no-rdma")
    try:
        found = run(ready, *ALL_BUT_RAILS)
    finally:
        shell(nodes[1], "rm /etc/gb10-lab/no-rdma")
    rates = [check for check in found.checks if check.check == "rail-bandwidth"]
    errors = {HEAD: "Unable to init the socket connection", WORKER: "Couldn't get context for the device"}
    for check in rates:
        assert check.node
        assert f"Gb/s by tcp (ib_write_bw ended with status 1:  {errors[check.node]})" in check.reason
        assert check.measured_gbps
    assert {(check.node, check.rail) for check in rates} == {(node, rail) for node in errors for rail in RAILS}


def test_an_unavailable_image_fails_with_dockers_error(ready: Product) -> None:
    found = run(ready.with_data(**BOTH, validate_gpu_image="registry.invalid/cuda:13"), HEAD, *ALL_BUT_CONTAINER)
    (check,) = found.checks
    assert (check.outcome, check.code) == ("fail", "GPU_CONTAINER_FAILED")
    assert "registry.invalid" in check.reason


def test_a_hanging_container_is_stopped_and_removed(ready: Product) -> None:
    hanging = ready.with_data(**BOTH, validate_gpu_command=["sleep", "600"], validate_container_seconds=3)
    began = time.monotonic()
    found = run(hanging, *ALL_BUT_CONTAINER)
    assert time.monotonic() - began < 60
    assert outcomes(found, "gpu-container") == {HEAD: "fail", WORKER: "fail"}


def test_rails_are_not_measured_while_a_node_serves(ready: Product, nodes: list[Any]) -> None:
    shell(nodes[1], f"docker run -d --name vllm {IMAGE}")
    try:
        found = run(ready, HEAD, *ALL_BUT_RAILS)
        forced = run(ready, HEAD, *ALL_BUT_RAILS, "--while-serving")
    finally:
        shell(nodes[1], "docker rm -f vllm")
    (check,) = (check for check in found.checks if check.check == "rail-bandwidth")
    assert (check.outcome, found.outcome) == ("skip", "skip")
    assert "vllm may be serving on spark-2" in check.reason
    assert all(check.measured_gbps for check in forced.checks if check.check == "rail-bandwidth")


def test_a_taken_port_fails_the_check(ready: Product, nodes: list[Any]) -> None:
    shell(nodes[1], "systemd-run --unit squatter python3 -m http.server 8880")
    try:
        shell(nodes[1], "until ss -H -l -t -n 'sport = :8880' | grep -q .; do sleep 0.1; done")
        found = run(ready, HEAD, *ALL_BUT_RAILS)
    finally:
        shell(nodes[1], "systemctl stop squatter")
    assert outcomes(found, "rail-bandwidth") == {HEAD: "fail"}


def all_reduce(product: Product, script: str, floor: float) -> Validation:
    """Validate with a shell script instead of the all-reduce program."""
    return run(
        product.with_data(
            **BOTH,
            **QUICK,
            validate_nccl_image=IMAGE,
            validate_nccl_options=["--gpus", "all", *NODE_TOOLS],
            validate_nccl_command=["sh", "-c", script],
            validate_nccl_floor_gbps=floor,
        ),
        "--nccl",
        *[word for name in CHECKS if name != "nccl" for word in ("--skip", name)],
    )


def test_an_all_reduce_runs_on_all_nodes_at_once(ready: Product, lab: Any) -> None:
    # Rank 0 waits for rank 1 at the address and port that both have in their environment.
    where = '(os.environ[\\"MASTER_ADDR\\"], int(os.environ[\\"MASTER_PORT\\"]))'
    wait = f'python3 -c "import os, socket; s = socket.create_server({where}); s.settimeout(30); s.accept()"'
    call = f'python3 -c "import os, socket; socket.create_connection({where})"'
    meet = (
        f'if [ "$RANK" = 0 ]; then {wait} && echo "{{\\"busbw_gbps\\": 120.5}}"; '
        f"else for i in $(seq 100); do {call} 2>/dev/null && exit 0; sleep 0.2; done; exit 1; fi"
    )
    (check,) = all_reduce(ready, meet, 80.0).checks
    assert (check.outcome, check.node, check.peer, check.measured_gbps) == ("pass", HEAD, WORKER, 120.5), check.reason
    (check,) = all_reduce(ready, 'echo "{\\"busbw_gbps\\": 24}"', 80.0).checks
    assert (check.outcome, check.code) == ("fail", "NCCL_FAILED")
    environment = 'echo "$NCCL_SOCKET_IFNAME $NCCL_IB_HCA $WORLD_SIZE $GB10_MEGABYTES $MASTER_ADDR"; exit 1'
    (check,) = all_reduce(ready, environment, 80.0).checks
    assert f"enp1s0f0np0,enP2p1s0f0np0 rocep1s0f0,roceP2p1s0f0 2 128 {lab.address(HEAD, 'a')}" in check.reason


def test_an_all_reduce_needs_an_image_and_a_valid_size(ready: Product) -> None:
    only = [word for name in CHECKS if name != "nccl" for word in ("--skip", name)]
    (check,) = run(ready, "--nccl", *only).checks
    assert (check.outcome, check.reason) == ("skip", "no image is set: validate_nccl_image")
    large = ready.with_data(**BOTH, validate_nccl_image=IMAGE, validate_nccl_megabytes=16000)
    (check,) = run(large, "--nccl", *only).checks
    assert (check.outcome, check.code) == ("fail", "SETTINGS_INVALID")
    assert "nccl_megabytes" in check.reason


def test_a_killed_controller_leaves_nothing_behind(ready: Product, nodes: list[Any]) -> None:
    process = ready.with_data(
        **BOTH, **QUICK, validate_gpu_command=["sleep", "20"], validate_container_seconds=10
    ).start("validate")
    until(lambda: leftovers(nodes[0]) != "", 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: leftovers(nodes[0]) == leftovers(nodes[1]) == "", 60)


def test_a_controller_killed_while_measuring_leaves_nothing(ready: Product, nodes: list[Any]) -> None:
    process = ready.start("validate", HEAD, *ALL_BUT_RAILS)
    until(lambda: "LISTEN" in leftovers(nodes[1]), 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: leftovers(nodes[0]) == leftovers(nodes[1]) == "", 60)


def test_the_deploy_fails_only_on_the_failed_node(ready: Product, nodes: list[Any]) -> None:
    shell(nodes[1], "mkdir -p /etc/gb10-lab && touch /etc/gb10-lab/no-gpu")
    try:
        done = ready.pyinfra("-y", "gb10.deploys.validate", "pairs={}")
    finally:
        shell(nodes[1], "rm /etc/gb10-lab/no-gpu")
    assert done.status != 0
    assert f"pass: gpu-container {HEAD}: " in done.output
    assert f"fail: gpu-container {WORKER}: " in done.output
    assert "gb10: VALIDATION_FAILED: spark-2: gpu-container" in done.output
    plan = ready.pyinfra("--dry", "gb10.deploys.validate")
    assert plan.status == 0
    assert "gpu-container spark" not in plan.output


def test_nodes_without_k3s_are_validated(whole: Product, fresh_nodes: None, nodes: list[Any]) -> None:
    empty = "gb10-lab-empty:latest"
    for node in nodes:
        shell(node, f"tar -cf - -T /dev/null | docker import - {empty}")
    bare = whole.with_data(**QUICK, validate_gpu_image=empty)
    found = run(bare, "--skip", "rail-bandwidth", "--skip", "rail-mtu")
    assert outcomes(found, "k3s") == {HEAD: "skip", WORKER: "skip"}
    assert outcomes(found, "gpu-container") == outcomes(found, "rails") == {HEAD: "pass", WORKER: "pass"}
    assert found.outcome == "skip"
    assert run(bare, *ALL_BUT_CONTAINER).outcome == "pass"
