"""Answers of two healthy nodes, and of nodes with the faults that a test wants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gb10.controller.cluster.queries import OVERVIEW
from gb10.controller.cluster.status import build_status
from gb10.controller.cluster.status_model import ClusterStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.run.results import FactsResult
from gb10.facts.reading.cluster import ClusterNode, HelmRelease
from gb10.facts.reading.k3s import K3sInstallation
from gb10.facts.reading.node import GpuDevice, GpuState, Identity, Release
from gb10.facts.reading.operators import ClusterPolicy, OperatorPod
from gb10.facts.reading.overview import Overview
from gb10.facts.reading.rdma import ConnectX7, RdmaLink
from tests.unit.controller.hosts import inventory_host

RAILS = {"a": "enp1s0f0np0", "b": "enP2p1s0f0np0"}


def rails(last: int) -> dict[str, dict[str, str]]:
    """Return both rails of a node as an inventory has them."""
    networks = zip(RAILS, ("192.168.100", "192.168.101"), strict=True)
    return {rail: {"interface": RAILS[rail], "address": f"{network}.{last}/24"} for rail, network in networks}


INVENTORY = Inventory(
    "inventory.py",
    (
        inventory_host("Spark-1", "head", ssh_hostname="198.18.0.11", rails=rails(11)),
        inventory_host("spark-2", "workers", ssh_hostname="198.18.0.12", rails=rails(12)),
    ),
)
HOSTS = INVENTORY.names


def identity(name: str, **other: Any) -> Identity:
    found: dict[str, Any] = {
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
    return Identity(**{**found, **other})


def install(role: str, **other: Any) -> K3sInstallation:
    found: dict[str, Any] = {
        "role": role,
        "version": "v1.36.4+k3s1",
        "binary_sha256": "0",
        "architecture": "arm64",
        "unit_state": "active",
        "unit_enabled": True,
        "main_pid": 7,
        "config_sha256": "1",
        "uninstall_scripts": (),
        "stale": False,
        "foreign": False,
        "exec_start": None,
        "node_password": True,
        "drained": False,
    }
    return K3sInstallation(**{**found, **other})


def node(name: str, **other: Any) -> ClusterNode:
    found: dict[str, Any] = {
        "name": name,
        "ready": True,
        "cordoned": False,
        "version": "v1.36.4+k3s1",
        "addresses": {"InternalIP": ["198.18.0.11"]},
        "runtime": "docker://26.1.5",
        "allocatable": {"cpu": "20"},
        "labels": {"node-role.kubernetes.io/control-plane": "true"} if name == "spark-1" else {},
    }
    return ClusterNode(**{**found, **other})


def half(netdev: str, address: str | None, **other: Any) -> RdmaLink:
    found: dict[str, Any] = {
        "device": "rocep1s0f0",
        "port": 1,
        "netdev": netdev,
        "state": "ACTIVE",
        "physical_state": "LINK_UP",
        "operstate": "UP",
        "rate_gbps": 200.0,
        "mtu_bytes": 9000,
        "addresses": (address,) if address else (),
        "pci_address": "0000:01:00.0",
        "physical_port": 0,
    }
    return RdmaLink(**{**found, **other})


def connectx7(host: str, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None) -> ConnectX7:
    """Return both halves of one port, each with its changes."""
    last = 11 + HOSTS.index(host)
    halves = ((RAILS["a"], f"192.168.100.{last}/24", a), (RAILS["b"], f"192.168.101.{last}/24", b))
    return ConnectX7(tuple(replace(half(netdev, address), **(other or {})) for netdev, address, other in halves))


def gpu(**other: Any) -> GpuState:
    found: dict[str, Any] = {
        "devices": (device("580.95.05"),),
        "cuda_version": "13.0",
        "processes": (),
        "memory_total_kib": 125632128,
        "memory_available_kib": 104857600,
    }
    return GpuState(**{**found, **other})


def device(driver_version: str) -> GpuDevice:
    return GpuDevice("NVIDIA GB10", driver_version, None)


DGX = Release(
    name="DGX Spark",
    pretty_name="NVIDIA DGX Spark",
    factory_version="7.2.3",
    factory_date="2025-09-10-13-50-03",
    ota_version="7.3.1",
    ota_date="Wed Nov 19 05:05:30 PM CET 2025",
    commit="833b4a7",
    platform="DGX Server for KVM",
    serial_number="1983925000000",
)


def facts(
    installs: dict[str, K3sInstallation] | None = None,
    nodes: list[ClusterNode] | None = None,
    errors: tuple[Gb10Error, ...] = (),
    answering: tuple[str, ...] = HOSTS,
    cluster: dict[str, Any] | None = None,
    **devices: dict[str, Any],
) -> FactsResult:
    """Return the answers of the hosts. `devices` replace a part of some hosts: gpu={"spark-2": None}."""
    overviews: dict[str, Overview] = {}
    for host in answering:
        parts: dict[str, Any] = {"gpu": gpu(), "connectx7": connectx7(host), "dgx": DGX}
        parts |= {part: found[host] for part, found in devices.items() if host in found}
        asked = {**NO_OPERATORS, **(cluster or {}), "nodes": tuple(nodes)} if host == "Spark-1" and nodes else {}
        overviews[host] = Overview(identity=identity(host), k3s=(installs or {}).get(host), **parts, **asked)
    return FactsResult({OVERVIEW: overviews}, HOSTS, errors)


NO_OPERATORS: dict[str, Any] = {
    "cluster_policies": (),
    "nic_cluster_policies": (),
    "gpu_operator_pods": (),
    "network_operator_pods": (),
    "releases": (),
}


def release(chart: str, status: str = "deployed") -> HelmRelease:
    return HelmRelease(chart, chart, 1, status, chart, "v1.2.3", None)


def pod(name: str, status: str | None = "Running", restarts: int = 0, waiting: tuple[str, ...] = ()) -> OperatorPod:
    phase = "Running" if status == "Running" else "Pending"
    return OperatorPod(name, "", None, phase, status or "", 1, 1, restarts, waiting)


BOTH = {"Spark-1": install("server"), "spark-2": install("agent")}


OPTIONAL = (
    "the GPU Operator is not installed; it is optional",
    "the Network Operator is not installed; it is optional",
)


def status(*args: Any, inventory: Inventory = INVENTORY, **kwargs: Any) -> ClusterStatus:
    return build_status(inventory, facts(*args, **kwargs))


def up(**more: Any) -> ClusterStatus:
    """Return the status of a healthy cluster with the given changes."""
    return status(BOTH, [node("spark-1"), node("spark-2")], **more)


WITH_GPU = [node(name, allocatable={"nvidia.com/gpu": "1"}) for name in ("spark-1", "spark-2")]
GPU_OPERATOR: dict[str, Any] = {
    "cluster_policies": (ClusterPolicy("cluster-policy", "ready", None),),
    "gpu_operator_pods": (pod("a"), pod("b", restarts=2)),
    "releases": (release("gpu-operator"), release("other")),
}
