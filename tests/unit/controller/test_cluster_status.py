"""The status, from what nodes say."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gb10.cli.screen.status_view import status_lines, status_tables
from gb10.controller.cluster.queries import OVERVIEW
from gb10.controller.cluster.status import ClusterStatus, build_status, unhealthy
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.run.results import FactsResult
from gb10.facts.reading.operators import AppliedState, ClusterPolicy, NicClusterPolicy
from gb10.facts.reading.overview import Overview
from gb10.facts.reading.rdma import ConnectX7
from tests.unit.controller.documented import documentation
from tests.unit.controller.hosts import inventory_host, saying
from tests.unit.controller.two_nodes import (
    BOTH,
    GPU_OPERATOR,
    HOSTS,
    INVENTORY,
    OPTIONAL,
    RAILS,
    WITH_GPU,
    connectx7,
    device,
    facts,
    gpu,
    half,
    identity,
    install,
    node,
    pod,
    release,
    status,
    up,
)


def test_a_cluster_whose_nodes_are_ready_is_healthy() -> None:
    found = status(BOTH, [node("spark-1"), node("spark-2")])
    assert (found.healthy, found.reasons, found.warnings, found.notes) == (True, (), (), OPTIONAL)
    head, worker = found.nodes
    assert (head.group, worker.group) == ("head", "workers")
    assert head.kubernetes
    assert (head.kubernetes.ready, head.kubernetes.runtime) == (True, "docker://26.1.5")
    assert unhealthy(found) is None


def test_the_json_of_a_status_keeps_its_fields() -> None:
    """Fields may be added. Scripts rely on those that are there."""
    found = status(BOTH, [node("spark-1"), node("spark-2")]).model_dump(mode="json")
    assert " ".join(found["nodes"][0]) == (
        "name node_name group reachable problem hostname architecture os k3s kubernetes gpu connectx7 dgx"
    )
    assert " ".join(found["gpu_operator"]) == (
        "installed ready release chart_version state resource offered pods healthy_pods restarts reasons"
    )


def test_nodes_without_k3s_are_healthy_because_it_is_optional() -> None:
    found = status()
    assert found.healthy
    assert found.notes == ("K3s is not installed; it is optional",)


def test_a_node_that_does_not_answer_is_a_reason_and_no_crash() -> None:
    error = Gb10Error(
        "NODE_UNREACHABLE", host="spark-2", reason="no route", ssh="ssh spark-2 true", again="gb10 status"
    )
    found = status(BOTH, [node("spark-1"), node("spark-2", ready=False)], errors=(error,), answering=("Spark-1",))
    assert not found.healthy
    assert found.reasons == ("spark-2 does not answer: no route",)
    assert found.remedies == (error.remedy,)
    assert not found.nodes[1].reachable
    assert found.nodes[1].kubernetes
    assert not found.nodes[1].kubernetes.ready


def test_nobody_answering_is_a_status_too() -> None:
    found = build_status(INVENTORY, FactsResult({}, HOSTS, (Gb10Error("OPERATION_FAILED", "pyinfra ended early"),)))
    assert not found.healthy
    assert found.notes == ()
    assert all("not read" in reason for reason in found.reasons)


def test_a_node_that_is_not_ready_says_why() -> None:
    found = status(BOTH, [node("spark-1"), node("spark-2", ready=False, reason="Kubelet stopped posting node status.")])
    assert found.reasons == ("spark-2 is not Ready: Kubelet stopped posting node status.",)
    assert found.remedies == (
        "Bring it back to the state in the inventory: gb10 bootstrap --dry-run, then gb10 bootstrap",
    )
    error = unhealthy(found)
    assert error
    assert error.code == "UNHEALTHY"


def test_a_silent_api_server_is_said_once() -> None:
    assert status(BOTH).reasons == ("no API server answers",)


def test_a_host_outside_the_cluster_needs_no_k3s() -> None:
    nas = inventory_host("nas", "storage", ssh_hostname="198.18.0.20")
    answers = facts(BOTH, [node("spark-1"), node("spark-2")])
    overviews = {**answers.values[OVERVIEW], "nas": Overview(identity=identity("nas"))}
    inventory = Inventory("inventory.py", (*INVENTORY.hosts, nas))
    found = build_status(inventory, FactsResult({OVERVIEW: overviews}, inventory.names))
    assert (found.healthy, found.reasons) == (True, ())


def test_a_stopped_k3s_a_missing_one_and_one_that_did_not_join_are_reasons() -> None:
    stopped = {**BOTH, "spark-2": install("agent", unit_state="failed")}
    assert status(stopped, [node("spark-1")]).reasons == ("K3s on spark-2 is failed",)
    assert status({"Spark-1": install("server")}, [node("spark-1")]).reasons == (
        "spark-2 has no K3s, but other nodes have",
    )
    assert status(BOTH, [node("spark-1")]).reasons == ("spark-2 is not a node of the Kubernetes cluster",)


def test_what_is_worth_a_look_is_a_warning_and_healthy() -> None:
    installs = {**BOTH, "spark-2": install("agent", version="v1.35.1+k3s1", stale=True)}
    wanted = Inventory("i", tuple(saying(one, k3s_version="v1.36.4+k3s1") for one in INVENTORY.hosts))
    found = status(installs, [node("spark-1"), node("spark-2", cordoned=True), node("old")], inventory=wanted)
    assert found.healthy
    assert found.warnings == (
        "spark-2 is cordoned",
        "the files of K3s on spark-2 have changed since it started",
        "spark-2 has K3s v1.35.1+k3s1, the inventory wants v1.36.4+k3s1",
        "the nodes have different versions of K3s: v1.35.1+k3s1, v1.36.4+k3s1",
        "Kubernetes has a node old that is not in the inventory",
    )


def test_a_fact_that_could_not_be_read_makes_it_unhealthy() -> None:
    error = Gb10Error("OPERATION_FAILED", host="spark-2", reason="could not read gb10.facts.k3s.K3sInstall")
    assert not status(BOTH, [node("spark-1"), node("spark-2")], errors=(error,)).healthy


def test_a_part_of_a_node_that_could_not_be_read_is_named() -> None:
    found = up(troubles={"spark-2": {"gpu": "Gpu does not understand what the node printed"}}, gpu={"spark-2": None})
    assert found.reasons == ("on spark-2 could not be read: gpu (Gpu does not understand what the node printed)",)
    assert not any("nvidia-smi" in text for text in found.notes), "it is not known to be absent"


def test_the_release_memory_and_driver_of_each_node_are_told() -> None:
    first = up().nodes[0]
    assert first.gpu
    assert (first.gpu.name, first.gpu.driver_version, first.gpu.cuda_version) == ("NVIDIA GB10", "580.95.05", "13.0")
    assert (first.gpu.memory_total_mib, first.gpu.memory_available_mib) == (122687, 102400)
    assert first.dgx
    assert (first.dgx.version, first.dgx.factory_version) == ("7.3.1", "7.2.3")


def test_what_is_absent_is_named_and_keeps_nothing_from_being_healthy() -> None:
    none = dict.fromkeys(HOSTS)
    found = up(gpu={"spark-2": None}, connectx7=none, dgx=none)
    assert found.healthy
    assert found.notes == (
        *OPTIONAL,
        "no GPU driver on spark-2: there is no nvidia-smi",
        "no ConnectX-7 on Spark-1, spark-2",
    )
    assert up(connectx7={"spark-2": ConnectX7(())}).nodes[1].connectx7 is None


def test_a_gpu_that_does_not_answer_is_a_reason_with_its_own_remedy() -> None:
    found = up(gpu={"spark-2": gpu(devices=(), trouble="No devices were found")})
    assert found.reasons == ("the GPU of spark-2 does not answer: No devices were found",)
    assert found.remedies == (Gb10Error("GPU_FAULT", host="spark-2").remedy,)


def test_nodes_with_different_drivers_are_worth_a_look() -> None:
    other = gpu(devices=(device("580.126.09"),))
    assert up(gpu={"spark-2": other}).warnings == ("the nodes have different GPU drivers: 580.126.09, 580.95.05",)


RAIL_FAULTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "down": (
        connectx7("spark-2", {"state": "DOWN", "physical_state": "POLLING"}),
        ("rail a of spark-2 (enp1s0f0np0) is down: DOWN POLLING",),
    ),
    "without an address": (
        connectx7("spark-2", None, {"addresses": ("fe80::1/64",)}),
        ("rail b of spark-2 (enP2p1s0f0np0) has no address",),
    ),
    "under another name": (
        connectx7("spark-2", {"netdev": "eth7"}),
        ("rail a of spark-2: there is no interface enp1s0f0np0",),
    ),
    "in one subnet": (
        connectx7("spark-2", None, {"addresses": ("192.168.101.12/24", "192.168.100.13/24")}),
        ("both halves of port 0 of spark-2 are in one subnet: each needs one of its own",),
    ),
    "with halves of different MTU": (
        connectx7("spark-2", None, {"mtu_bytes": 1500}),
        (
            "the halves of port 0 of spark-2 have different MTUs",
            "rail b has MTU 9000 on Spark-1 and 1500 on spark-2",
        ),
    ),
    "with another MTU than the other node": (
        connectx7("spark-2", {"mtu_bytes": 1500}, {"mtu_bytes": 1500}),
        (
            "rail a has MTU 9000 on Spark-1 and 1500 on spark-2",
            "rail b has MTU 9000 on Spark-1 and 1500 on spark-2",
        ),
    ),
    "in another subnet than the other node": (
        connectx7("spark-2", {"addresses": ("10.0.0.2/24",)}),
        ("rail a of Spark-1 and spark-2 are in different subnets",),
    ),
}


@pytest.mark.parametrize("fault", RAIL_FAULTS)
def test_a_rail_that_is_not_as_it_should_be_is_a_reason(fault: str) -> None:
    found, reasons = RAIL_FAULTS[fault]
    told = up(connectx7={"spark-2": found})
    assert told.reasons == reasons
    assert told.remedies == (Gb10Error("RAIL_FAULT", host="spark-2").remedy,)


def test_a_port_without_a_cable_is_no_fault() -> None:
    dark = half("enp1s0f1np1", None, state="DOWN", physical_port=1)
    found = ConnectX7((*connectx7("spark-2").links, dark))
    assert [port.ready for port in found.ports] == [True, False]
    assert up(connectx7={"spark-2": found}).healthy


def test_rails_that_the_inventory_does_not_name_are_no_fault_but_said() -> None:
    inventory = Inventory("i", tuple(saying(one, rails={}) for one in INVENTORY.hosts))
    found = up(connectx7={"spark-2": connectx7("spark-2", {"state": "DOWN"})}, inventory=inventory)
    assert found.healthy
    assert found.notes[-1] == "the inventory names no rails for Spark-1, spark-2"


def test_an_operator_is_ready_when_its_policy_says_so_and_every_node_offers_its_resource() -> None:
    found = status(BOTH, WITH_GPU, cluster=GPU_OPERATOR)
    operator = found.gpu_operator
    assert found.healthy
    assert operator
    assert (operator.installed, operator.ready, operator.chart_version, operator.state) == (
        True,
        True,
        "v1.2.3",
        "ready",
    )
    assert (operator.pods, operator.healthy_pods, operator.restarts) == (2, 2, 2)
    assert operator.offered == {"spark-1": "1", "spark-2": "1"}
    assert found.network_operator
    assert not found.network_operator.installed


def test_an_operator_that_is_not_ready_says_what_it_waits_for() -> None:
    waiting = pod("validator", status="Init:0/4", waiting=("driver: ImagePullBackOff: not found",))
    more = [pod(f"p{number}", status="Pending") for number in range(3)]
    found = status(
        BOTH,
        [WITH_GPU[0], node("spark-2")],
        cluster={
            "cluster_policies": (ClusterPolicy("cluster-policy", "notReady", "no driver"),),
            "gpu_operator_pods": (pod("a"), waiting, *more),
            "releases": (release("gpu-operator", status="pending-install"),),
        },
    )
    assert found.gpu_operator
    assert found.gpu_operator.reasons == (
        "its release is pending-install",
        "its policy is notReady",
        "no driver",
        "spark-2 offers no nvidia.com/gpu",
        "pod validator is Init:0/4 (driver: ImagePullBackOff: not found)",
        "pod p0 is Pending",
        "pod p1 is Pending",
        "1 more pods wait",
    )
    assert found.reasons == (f"the GPU Operator is not ready: {'; '.join(found.gpu_operator.reasons)}",)
    assert found.remedies == (Gb10Error("OPERATOR_NOT_READY").remedy,)


def test_pods_explain_what_is_missing_and_decide_nothing() -> None:
    gone = [pod("old", status="Terminating"), pod("evicted", status="Evicted")]
    found = status(BOTH, WITH_GPU, cluster={**GPU_OPERATOR, "gpu_operator_pods": (pod("a"), *gone)})
    assert found.healthy
    assert found.gpu_operator
    assert (found.gpu_operator.ready, found.gpu_operator.pods, found.gpu_operator.healthy_pods) == (True, 3, 1)


def test_the_policy_that_counts_is_known_by_its_name() -> None:
    stray = ClusterPolicy("another", "ignored", None)
    ready = GPU_OPERATOR["cluster_policies"]
    assert status(BOTH, WITH_GPU, cluster={**GPU_OPERATOR, "cluster_policies": (stray, *ready)}).healthy
    found = status(BOTH, WITH_GPU, cluster={**GPU_OPERATOR, "cluster_policies": (replace(stray, state="ready"),)})
    assert found.reasons == ("the GPU Operator is not ready: it has no policy cluster-policy",)


def test_the_parts_of_a_policy_that_lag_are_named() -> None:
    lagging = (AppliedState("state-RDMA-device-plugin", "notReady"), AppliedState("state-OFED", "ignore"))
    policy = NicClusterPolicy("nic-cluster-policy", "notReady", lagging, None)
    nodes = [node(name, allocatable={"rdma/rdma_shared_device_a": "63"}) for name in ("spark-1", "spark-2")]
    found = status(BOTH, nodes, cluster={"nic_cluster_policies": (policy,)})
    assert found.network_operator
    assert found.network_operator.reasons == ("its policy is notReady, state-RDMA-device-plugin is notReady",)


def test_a_worker_alone_is_healthy_without_an_api_server() -> None:
    told = facts(BOTH, answering=("spark-2",))
    found = build_status(INVENTORY, FactsResult(told.values, ("spark-2",), told.errors))
    assert found.healthy
    assert found.notes == ("the head, which alone knows Kubernetes and its operators, was not read",)


def test_without_an_api_server_nobody_can_tell_about_operators() -> None:
    found = status(BOTH)
    assert (found.gpu_operator, found.network_operator) == (None, None)
    assert found.notes == ()


def test_every_field_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "status.md").read_text()
    assert documentation(ClusterStatus) in text, "paste what tests/unit/controller/documented.py prints"


def test_its_json_is_stable() -> None:
    document = json.loads(up().model_dump_json())
    assert document["schema_version"] == 1
    assert set(document) == {
        "schema_version",
        "healthy",
        "reasons",
        "remedies",
        "warnings",
        "notes",
        "nodes",
        "gpu_operator",
        "network_operator",
        "serving",
    }
    first = document["nodes"][0]
    assert {key: first[key] for key in ("name", "group", "reachable", "problem", "hostname", "architecture", "os")} == {
        "name": "Spark-1",
        "group": "head",
        "reachable": True,
        "problem": None,
        "hostname": "Spark-1",
        "architecture": "arm64",
        "os": "Ubuntu 24.04.3 LTS",
    }
    assert first["k3s"] == {
        "version": "v1.36.4+k3s1",
        "role": "server",
        "unit_state": "active",
        "unit_enabled": True,
        "stale": False,
    }
    assert first["kubernetes"] == {
        "ready": True,
        "cordoned": False,
        "roles": ["control-plane"],
        "version": "v1.36.4+k3s1",
        "runtime": "docker://26.1.5",
        "addresses": {"InternalIP": ["198.18.0.11"]},
        "reason": None,
        "allocatable": {"cpu": "20"},
    }
    assert first["connectx7"]["halves"][0] == {
        "rail": "a",
        "interface": "enp1s0f0np0",
        "device": "rocep1s0f0",
        "port": 0,
        "up": True,
        "state": "ACTIVE",
        "physical_state": "LINK_UP",
        "rate_gbps": 200.0,
        "mtu_bytes": 9000,
        "addresses": ["192.168.100.11/24"],
    }


names = st.text("abcdefghij-", min_size=1, max_size=8)
texts = st.none() | names


@given(
    connectx7=st.dictionaries(
        st.sampled_from(HOSTS),
        st.none()
        | st.builds(
            ConnectX7,
            st.lists(
                st.builds(
                    half,
                    st.sampled_from([*RAILS.values(), "eth0"]),
                    st.none() | st.sampled_from(["10.0.0.1/8", "192.168.1.1/24", "fe80::1/64", "fd00::1/8"]),
                    state=texts | st.just("ACTIVE"),
                    operstate=texts,
                    mtu_bytes=st.none() | st.integers(0, 9978),
                    rate_gbps=st.none() | st.floats(0, 400),
                    physical_port=st.none() | st.integers(0, 1),
                ),
                max_size=4,
            ).map(tuple),
        ),
    ),
    gpus=st.dictionaries(st.sampled_from(HOSTS), st.none() | st.builds(gpu, trouble=texts, cuda_version=texts)),
    state=texts,
    pod_status=texts | st.just("Running"),
    installed=st.booleans(),
)
def test_whatever_the_nodes_say_is_a_status_that_can_be_shown(
    connectx7: Any, gpus: Any, state: str | None, pod_status: str | None, installed: bool
) -> None:
    policies = (NicClusterPolicy("nic-cluster-policy", state, (), None),) if installed else ()
    cluster = {"nic_cluster_policies": policies, "network_operator_pods": (pod("a", status=pod_status),)}
    found = up(connectx7=connectx7, gpu=gpus, cluster=cluster)
    assert ClusterStatus.model_validate_json(found.model_dump_json()) == found
    assert found.healthy == (not found.reasons) == (not found.remedies)
    shown = Console(width=200, file=io.StringIO())
    for part in [*status_tables(found), *status_lines(found)]:
        shown.print(part)


def test_what_a_node_says_is_no_markup() -> None:
    found = status(BOTH, [node("spark-1"), node("spark-2")])
    said = "[link=https://example.org]click[/link] [/] [red]"
    liar = found.nodes[0].model_copy(update={"os": said})
    shown = Console(width=200, file=io.StringIO(), force_terminal=True)
    for part in status_tables(found.model_copy(update={"nodes": (liar, *found.nodes[1:])})):
        shown.print(part)
    assert said in shown.file.getvalue()  # type: ignore[attr-defined] # a StringIO
