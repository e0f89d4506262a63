"""The status, from facts as pyinfra prints them."""

from __future__ import annotations

import json
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.results import FactsResult
from gb10.controller.status import IDENTITY, INSTALL, NODES, ClusterStatus, build_status, unhealthy

INVENTORY = Inventory(
    "inventory.py",
    (
        InventoryHost("Spark-1", ("head",), address="198.18.0.11", node_name="spark-1"),
        InventoryHost("spark-2", ("workers",), address="198.18.0.12", node_name="spark-2"),
    ),
)
HOSTS = INVENTORY.names


def identity(name: str) -> dict[str, Any]:
    return {
        "hostname": name,
        "machine_id": "1",
        "boot_id": "2",
        "macs": {},
        "architecture": "arm64",
        "os_id": "ubuntu",
        "os_version": "24.04",
        "os_name": "Ubuntu 24.04.3 LTS",
        "clock": 0.0,
    }


def install(role: str, **other: Any) -> dict[str, Any]:
    found = {
        "role": role,
        "version": "v1.36.4+k3s1",
        "binary_sha256": "0",
        "unit_state": "active",
        "unit_enabled": True,
        "main_pid": 7,
        "config_sha256": "1",
        "uninstall_scripts": [],
        "stale": False,
    }
    return {**found, **other}


def node(name: str, **other: Any) -> dict[str, Any]:
    found = {
        "name": name,
        "ready": True,
        "cordoned": False,
        "roles": ["control-plane"] if name == "spark-1" else [],
        "version": "v1.36.4+k3s1",
        "internal_ip": "198.18.0.11",
        "addresses": {"InternalIP": ["198.18.0.11"]},
        "runtime": "docker://26.1.5",
        "allocatable": {"cpu": "20"},
        "labels": {},
        "reason": None,
    }
    return {**found, **other}


def facts(
    installs: dict[str, Any] | None = None,
    nodes: list[dict[str, Any]] | None = None,
    errors: tuple[Gb10Error, ...] = (),
    answering: tuple[str, ...] = HOSTS,
) -> FactsResult:
    installs = installs or {}
    return FactsResult(
        {
            IDENTITY: {host: identity(host) for host in answering},
            INSTALL: {host: installs.get(host) for host in answering},
            NODES: {host: nodes if host == "Spark-1" else None for host in answering},
        },
        HOSTS,
        errors,
    )


BOTH = {"Spark-1": install("server"), "spark-2": install("agent")}


def status(*args: Any, inventory: Inventory = INVENTORY, **kwargs: Any) -> ClusterStatus:
    return build_status(inventory, facts(*args, **kwargs))


def test_a_cluster_whose_nodes_are_ready_is_healthy() -> None:
    found = status(BOTH, [node("spark-1"), node("spark-2")])
    assert (found.healthy, found.reasons, found.warnings, found.notes) == (True, (), (), ())
    head, worker = found.nodes
    assert (head.group, worker.group) == ("head", "workers")
    assert head.kubernetes
    assert (head.kubernetes.ready, head.kubernetes.runtime) == (True, "docker://26.1.5")
    assert unhealthy(found) is None


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
    assert all("not asked" in reason for reason in found.reasons)


def test_a_node_that_is_not_ready_says_why() -> None:
    found = status(BOTH, [node("spark-1"), node("spark-2", ready=False, reason="Kubelet stopped posting node status.")])
    assert found.reasons == ("spark-2 is not Ready: Kubelet stopped posting node status.",)
    assert found.remedies == (
        "Bring it back to what the inventory says: gb10 bootstrap --dry-run, then gb10 bootstrap",
    )
    error = unhealthy(found)
    assert error
    assert error.code == "UNHEALTHY"


def test_a_silent_api_server_is_said_once() -> None:
    assert status(BOTH).reasons == ("no API server answers",)


def test_a_stopped_k3s_a_missing_one_and_one_that_did_not_join_are_reasons() -> None:
    stopped = {**BOTH, "spark-2": install("agent", unit_state="failed")}
    assert status(stopped, [node("spark-1")]).reasons == ("K3s on spark-2 is failed",)
    assert status({"Spark-1": install("server")}, [node("spark-1")]).reasons == (
        "spark-2 has no K3s, other nodes have",
    )
    assert status(BOTH, [node("spark-1")]).reasons == ("spark-2 is not a node of the Kubernetes cluster",)


def test_what_is_worth_a_look_is_a_warning_and_healthy() -> None:
    installs = {**BOTH, "spark-2": install("agent", version="v1.35.1+k3s1", stale=True)}
    wanted = Inventory("i", tuple(InventoryHost(**{**vars(h), "k3s_version": "v1.36.4+k3s1"}) for h in INVENTORY.hosts))
    found = status(installs, [node("spark-1"), node("spark-2", cordoned=True), node("old")], inventory=wanted)
    assert found.healthy
    assert found.warnings == (
        "spark-2 is cordoned",
        "K3s on spark-2 runs with files that have changed since",
        "spark-2 has K3s v1.35.1+k3s1, the inventory wants v1.36.4+k3s1",
        "the nodes have different versions of K3s: v1.35.1+k3s1, v1.36.4+k3s1",
        "Kubernetes has a node old that the inventory does not know",
    )


def test_a_fact_that_could_not_be_read_makes_it_unhealthy() -> None:
    error = Gb10Error("OPERATION_FAILED", host="spark-2", reason="could not read gb10.facts.k3s.K3sInstall")
    assert not status(BOTH, [node("spark-1"), node("spark-2")], errors=(error,)).healthy


def test_its_json_is_stable() -> None:
    document = json.loads(status(BOTH, [node("spark-1"), node("spark-2")]).model_dump_json())
    assert document["schema_version"] == 1
    assert set(document) == {"schema_version", "healthy", "reasons", "remedies", "warnings", "notes", "nodes"}
    assert document["nodes"][0] == {
        "name": "Spark-1",
        "group": "head",
        "reachable": True,
        "problem": None,
        "hostname": "Spark-1",
        "architecture": "arm64",
        "os": "Ubuntu 24.04.3 LTS",
        "k3s": {
            "version": "v1.36.4+k3s1",
            "role": "server",
            "unit_state": "active",
            "unit_enabled": True,
            "stale": False,
        },
        "kubernetes": {
            "ready": True,
            "cordoned": False,
            "roles": ["control-plane"],
            "version": "v1.36.4+k3s1",
            "runtime": "docker://26.1.5",
            "addresses": {"InternalIP": ["198.18.0.11"]},
            "reason": None,
        },
    }
