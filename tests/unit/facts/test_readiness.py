"""What an operator lacks to be ready, and what its pods wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.operators import (
    GPU,
    NETWORK,
    AppliedState,
    ClusterPolicy,
    NicClusterPolicy,
    OperatorPod,
    lacking,
    why_waiting,
)


def node(name: str = "spark-1", allocatable: Mapping[str, str] | None = None, ready: bool = True) -> ClusterNode:
    return ClusterNode(
        name=name,
        ready=ready,
        cordoned=False,
        version="v1.36.4+k3s1",
        addresses={},
        runtime="docker://28.5.1",
        allocatable=dict(allocatable or {}),
        reason=None if ready else "Kubelet stopped posting node status.",
    )


WITH_GPU = {"nvidia.com/gpu": "1"}
WITH_RDMA = {"rdma/rdma_shared_device_a": "63"}
READY = (ClusterPolicy("cluster-policy", "ready", None),)


def test_ready_is_the_policys_state_and_the_resource_on_every_node() -> None:
    assert lacking(GPU, 1, READY, (node(allocatable=WITH_GPU), node("spark-2", WITH_GPU))) == []


def test_a_ready_policy_is_not_enough_where_a_node_offers_nothing() -> None:
    (why,) = lacking(GPU, 1, READY, (node(allocatable=WITH_GPU), node("spark-2")))
    assert why == "spark-2 offers no nvidia.com/gpu"


def test_fewer_slices_than_wanted_are_not_enough() -> None:
    assert lacking(GPU, 4, READY, (node(allocatable=WITH_GPU),)) == ["spark-1 offers 1 nvidia.com/gpu, wanted 4"]


def test_a_thousand_slices_are_counted_as_kubernetes_writes_them() -> None:
    assert lacking(GPU, 1000, READY, (node(allocatable={"nvidia.com/gpu": "1k"}),)) == []


def test_a_node_that_is_down_says_so() -> None:
    assert lacking(GPU, 1, READY, (node("spark-2", ready=False),)) == [
        "spark-2 offers no nvidia.com/gpu",
        "spark-2 is not Ready: Kubelet stopped posting node status.",
    ]


def test_a_policy_that_is_not_ready_is_quoted() -> None:
    policies = (ClusterPolicy("cluster-policy", "notReady", "OperandNotReady: state-device-plugin"),)
    why = lacking(GPU, 1, policies, (node(allocatable=WITH_GPU),))
    assert why == ["its policy is notReady", "OperandNotReady: state-device-plugin"]


def test_the_parts_of_a_network_policy_that_lag_are_named_and_those_nobody_asked_for_are_not() -> None:
    applied = (AppliedState("state-OFED", "ignore"), AppliedState("state-RDMA-device-plugin", "notReady"))
    policies = (NicClusterPolicy("nic-cluster-policy", "notReady", applied, None),)
    (why,) = lacking(NETWORK, 1, policies, (node(allocatable=WITH_RDMA),))
    assert why == "its policy is notReady, state-RDMA-device-plugin is notReady"


def test_a_policy_under_another_name_is_none() -> None:
    policies = (NicClusterPolicy("my-policy", "ready", (), None),)
    assert lacking(NETWORK, 1, policies, ()) == ["it has no policy nic-cluster-policy"]


def test_an_api_server_that_does_not_answer_is_no_readiness() -> None:
    assert lacking(GPU, 1, None, (node(),))
    assert lacking(GPU, 1, READY, None)


def pod(name: str, *waiting: str, **other: Any) -> OperatorPod:
    known: dict[str, Any] = {"node": "spark-1", "phase": "Pending", "status": "Pending", "restarts": 0}
    return OperatorPod(
        name=name, component=name, ready_containers=0, total_containers=1, waiting=waiting, **{**known, **other}
    )


def test_pods_that_wait_are_named_with_what_they_wait_for() -> None:
    pulls = pod("a", "x: ContainerCreating", "driver: ImagePullBackOff: not found", status="Init:0/4")
    done = pod("b", phase="Succeeded", status="Completed")
    assert why_waiting([pulls, done, pod("c", node=None)]) == [
        "pod a on spark-1 is Init:0/4 (driver: ImagePullBackOff: not found)",
        "pod c is Pending",
    ]


def test_only_some_pods_are_named() -> None:
    assert why_waiting([pod(f"p{number}") for number in range(5)])[3:] == ["2 more pods wait"]
