"""The status of lab nodes: what is present, absent or wrong, and the next commands."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gb10.controller.cluster.status_model import ClusterStatus, NodeStatus
from tests.lab.observe import shell
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
RAILS = {"a": "enp1s0f0np0", "b": "enP2p1s0f0np0"}
CANARY = "canary-5cb1d7"
# Helm stores the values of a release, and values may contain secrets.
SECRET_VALUES = {"validator": {"env": [{"name": "TOKEN", "value": CANARY}]}}


def read_status(product: Product) -> ClusterStatus:
    done = product.gb10("status", "--json")
    found = ClusterStatus.model_validate(done.json)
    assert (done.status == 0) == found.healthy, done.output
    assert done.status in (0, 5)
    return found


def node(found: ClusterStatus, name: str) -> NodeStatus:
    return next(node for node in found.nodes if node.name == name)


@contextmanager
def lab_file(hosts: list[Any], name: str) -> Iterator[None]:
    """Remove a device from nodes while the block runs: the lab's tools read_status for a file of this name."""
    try:
        for host in hosts:
            shell(host, f"mkdir -p /etc/gb10-lab && touch /etc/gb10-lab/{name}")
        yield
    finally:
        for host in hosts:
            shell(host, f"rm -f /etc/gb10-lab/{name}")


@pytest.fixture
def ready(whole: Product, lab: Any) -> Product:
    """The product on a cluster with both operators. Reuse and repair the existing one if possible."""
    found = read_status(whole)
    complete = found.healthy and all(op and op.installed for op in (found.gpu_operator, found.network_operator))
    if not complete and whole.gb10("bootstrap").status != 0:
        lab.wipe_all()
        done = whole.gb10("bootstrap")
        assert done.status == 0, done.output
    return whole


def operators(found: ClusterStatus) -> list[Any]:
    assert found.gpu_operator
    assert found.network_operator
    return [found.gpu_operator, found.network_operator]


def test_bare_nodes_are_healthy_with_notes(whole: Product, fresh_nodes: None, host_of: Any) -> None:
    nodes = [host_of(HEAD), host_of(WORKER)]
    with lab_file(nodes, "no-cx7"):
        shell(nodes[1], "mv /usr/local/bin/nvidia-smi /usr/local/bin/nvidia-smi.away")
        found = read_status(whole)
        shell(nodes[1], "mv /usr/local/bin/nvidia-smi.away /usr/local/bin/nvidia-smi")
    assert found.healthy
    assert found.notes == (
        "K3s is not installed; it is optional",
        "no GPU driver on spark-2: there is no nvidia-smi",
        "no ConnectX-7 on spark-1, spark-2",
    )
    assert (found.gpu_operator, found.network_operator) == (None, None)
    assert node(found, WORKER).gpu is None
    assert node(found, HEAD).connectx7 is None


def test_without_any_connectx7_everything_else_works(whole: Product, fresh_nodes: None, host_of: Any) -> None:
    with_secrets = whole.with_data(
        gpu_operator_enabled=True, network_operator_enabled=True, gpu_operator_values=SECRET_VALUES
    )
    with lab_file([host_of(HEAD), host_of(WORKER)], "no-cx7"):
        done = with_secrets.gb10("bootstrap", seconds=600)
        assert done.status == 0, done.output
        found = read_status(whole)
        assert found.healthy
        assert "no ConnectX-7 on spark-1, spark-2" in found.notes
        gpu, network = operators(found)
        assert (gpu.ready, network.installed) == (True, False)
        verbose = whole.gb10("status", "-vvv")
    assert CANARY in shell(
        host_of(HEAD),
        "/usr/local/bin/helm get values -n gpu-operator gpu-operator --kubeconfig /etc/rancher/k3s/k3s.yaml",
    )
    assert "gb10.facts.overview" in verbose.log
    assert CANARY not in verbose.output + verbose.log


def test_one_status_call_shows_the_whole_cluster(ready: Product, lab: Any) -> None:
    found = read_status(ready)
    assert (found.reasons, found.warnings, found.notes) == ((), (), ())
    for name in (HEAD, WORKER):
        seen = node(found, name)
        assert seen.k3s
        assert seen.kubernetes
        assert seen.gpu
        assert seen.connectx7
        assert (seen.k3s.unit_state, seen.kubernetes.ready) == ("active", True)
        assert (seen.gpu.name, seen.gpu.driver_version, seen.gpu.cuda_version) == ("NVIDIA GB10", "580.95.05", "13.0")
        assert seen.gpu.memory_total_mib == int(lab.root(name).joinpath("proc/meminfo").read_text().split()[1]) // 1024
        halves = {half.rail: half for half in seen.connectx7.halves}
        for rail, interface in RAILS.items():
            assert (halves[rail].interface, halves[rail].up) == (interface, True)
            assert [address.split("/")[0] for address in halves[rail].addresses or ()] == [lab.address(name, rail)]
    for operator in operators(found):
        assert (operator.ready, operator.release, operator.state) == (True, "deployed", "ready")
        assert set(operator.offered) == {HEAD, WORKER}
    done = ready.gb10("status", "-v")
    assert done.log.count("$ pyinfra") == 1
    for text in ("NVIDIA GB10", "GPU Operator", "Network Operator", "580.95.05", "mtu", "healthy"):
        assert text in done.stdout


def test_the_json_of_a_bootstrap_has_the_same_status(ready: Product) -> None:
    done = ready.gb10("bootstrap", "--json")
    assert ClusterStatus.model_validate(done.json["status"]).healthy


def test_a_pulled_rail_is_shown_with_its_remedy(ready: Product, lab: Any) -> None:
    lab.lab.rail(WORKER, "b", plugged=False)
    try:
        found = read_status(ready)
        done = ready.gb10("status")
    finally:
        lab.lab.rail(WORKER, "b", plugged=True)
    assert f"rail b of {WORKER} ({RAILS['b']}) is down" in "; ".join(found.reasons)
    assert any("gb10 provision spark-2" in remedy for remedy in found.remedies)
    assert "b down" in done.stdout
    assert "not healthy" in done.stdout
    halves = {half.rail: half.up for half in node(found, WORKER).connectx7.halves}  # type: ignore[union-attr] # or fail
    assert halves == {"a": True, "b": False}
    assert read_status(ready).healthy


def test_rails_are_shown_without_the_rdma_tools(ready: Product, lab: Any, host_of: Any) -> None:
    tools = "rdma ibdev2netdev ibstat"
    shell(host_of(WORKER), f"mkdir /root/tools; cd /usr/local/bin; mv {tools} /root/tools")
    lab.lab.rail(WORKER, "b", plugged=False)
    try:
        found = read_status(ready)
    finally:
        lab.lab.rail(WORKER, "b", plugged=True)
        shell(host_of(WORKER), "mv /root/tools/* /usr/local/bin; rmdir /root/tools")
    with_tools = node(read_status(ready), WORKER).connectx7
    without = node(found, WORKER).connectx7
    assert with_tools
    assert without
    assert [half.device for half in without.halves] == [half.device for half in with_tools.halves]
    assert [(half.up, half.rate_gbps) for half in without.halves] == [(True, 200), (False, 40)]
    assert [(half.up, half.rate_gbps) for half in with_tools.halves] == [(True, 200), (True, 200)]


FAULTS = {
    "another MTU": (
        "ip link set {b} mtu 4000",
        "ip link set {b} mtu 1500; ip link set {a} mtu 1500",
        ["the halves of port 0 of spark-2 have different MTUs", "rail b has MTU 1500 on spark-1 and 4000 on spark-2"],
    ),
    "an address in the other half's subnet": (
        "ip addr add {near}/24 dev {b}",
        "ip addr del {near}/24 dev {b}",
        ["both halves of port 0 of spark-2 are in one subnet"],
    ),
    "no address": (
        "ip addr del {own}/24 dev {b}",
        "ip addr add {own}/24 dev {b}",
        ["rail b of spark-2 (enP2p1s0f0np0) has no address"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_rail_is_a_reason(ready: Product, lab: Any, host_of: Any, fault: str) -> None:
    damage, repair, reasons = FAULTS[fault]
    near = f"{lab.address(WORKER, 'a').rpartition('.')[0]}.99"
    values = {**RAILS, "own": lab.address(WORKER, "b"), "near": near}
    shell(host_of(WORKER), damage.format(**values))
    try:
        found = read_status(ready)
    finally:
        shell(host_of(WORKER), repair.format(**values))
    assert not found.healthy
    for reason in reasons:
        assert any(text.startswith(reason) for text in found.reasons), found.reasons
    assert read_status(ready).healthy


def test_a_lost_gpu_is_a_reason(ready: Product, host_of: Any) -> None:
    with lab_file([host_of(WORKER)], "no-gpu"):
        found = read_status(ready)
    assert "the GPU of spark-2 does not answer: No devices were found" in found.reasons
    assert any("nvidia-smi" in remedy for remedy in found.remedies)
    assert node(found, HEAD).gpu.name == "NVIDIA GB10"  # type: ignore[union-attr] # None fails the test


def test_a_tool_that_prints_garbage_hides_nothing_else(ready: Product, host_of: Any) -> None:
    shell(
        host_of(WORKER),
        "mv /usr/local/bin/nvidia-smi /root/; printf '#!/bin/sh\\necho garbage\\n' > "
        "/usr/local/bin/nvidia-smi; chmod 755 /usr/local/bin/nvidia-smi",
    )
    try:
        found = read_status(ready)
    finally:
        shell(host_of(WORKER), "mv /root/nvidia-smi /usr/local/bin/")
    assert any(text.startswith("on spark-2 could not be read: gpu (") for text in found.reasons), found.reasons
    assert node(found, WORKER).kubernetes.ready  # type: ignore[union-attr] # None fails the test


def test_a_waiting_operator_names_its_reason(ready: Product, host_of: Any) -> None:
    head, faults = host_of(HEAD), "/run/gb10-lab/kube-faults.json"
    shell(head, f"echo '{json.dumps({'operators': {'pods': {'nvidia-operator-validator': 'Init:0/4'}}})}' > {faults}")
    try:
        found = await_status(ready, lambda status: not status.healthy)
    finally:
        shell(head, f"rm -f {faults}")
    gpu, network = operators(found)
    assert (gpu.installed, gpu.ready, network.ready) == (True, False, True)
    assert any(text.startswith("the GPU Operator is not ready: its policy is notReady") for text in found.reasons)
    assert any("nvidia-operator-validator" in text and "Init:0/4" in text for text in gpu.reasons), gpu.reasons
    await_status(ready, lambda status: status.healthy)


def await_status(product: Product, condition: Callable[[ClusterStatus], bool]) -> ClusterStatus:
    """Read the status until it meets a condition, and return it."""
    deadline = time.monotonic() + 60
    while not condition(found := read_status(product)):
        assert time.monotonic() < deadline, found.reasons
    return found


def test_watch_prints_one_line_for_each_status(ready: Product) -> None:
    watching = ready.start("status", "--json", "--watch")
    try:
        assert watching.stdout
        lines = [watching.stdout.readline() for _ in range(2)]
    finally:
        os.killpg(watching.pid, signal.SIGINT)
        watching.communicate(timeout=30)
    assert [ClusterStatus.model_validate_json(line).schema_version for line in lines] == [1, 1]
    assert watching.returncode == 130


def test_provision_has_a_dry_run_and_changes_once(whole: Product, fresh_nodes: None) -> None:
    dry = whole.gb10("provision", WORKER, "--dry-run", "--diff", "--detailed-exitcode")
    assert dry.status == 3, dry.output
    assert "+ HF_HOME=/data/huggingface" in dry.stdout
    assert whole.gb10("provision", WORKER, "--detailed-exitcode").status == 3
    again = whole.gb10("provision", WORKER, "--detailed-exitcode")
    assert again.status == 0, again.output
    assert whole.gb10("provision", "head", "--detailed-exitcode").status == 3, "a group of the inventory is valid too"
    assert whole.gb10("provision").status == 2
    unknown = whole.gb10("provision", "spark-9")
    assert (unknown.status, "HOST_UNKNOWN" in unknown.output) == (2, True)
