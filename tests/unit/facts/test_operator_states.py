"""Samples: see samples/README.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.operators import (
    ClusterPolicyState,
    GpuOperatorPods,
    NetworkOperatorPods,
    NicClusterPolicyState,
    OperatorWarnings,
)
from gb10.facts.reading.operators import AppliedState, ClusterPolicy, NicClusterPolicy, OperatorPod, WarningEvent
from tests.unit.facts.reading import ABSENT, altered, damaged, printed, process, run, sample, shell_accepts, words

EMPTY = ['{"apiVersion":"v1","items":[],"kind":"List","metadata":{"resourceVersion":""}}']


def pods(lines: list[str]) -> dict[str, OperatorPod]:
    found = GpuOperatorPods().process(printed({"pods": (lines, 0)}))
    assert found is not None
    return {pod.name: pod for pod in found}


def cluster_policies(name: str) -> tuple[ClusterPolicy, ...] | None:
    definition = ["customresourcedefinition.apiextensions.k8s.io/clusterpolicies.nvidia.com"]
    return ClusterPolicyState().process(printed({"definition": (definition, 0), "policies": (sample(name), 0)}))


def nic_policies(name: str) -> tuple[NicClusterPolicy, ...]:
    definition = ["customresourcedefinition.apiextensions.k8s.io/nicclusterpolicies.mellanox.com"]
    found = NicClusterPolicyState().process(printed({"definition": (definition, 0), "policies": (sample(name), 0)}))
    assert found is not None
    return found


def test_all_pods_of_a_ready_operator_are_healthy_completed_validators_too() -> None:
    found = pods(sample("pods-ready.json"))
    assert len(found) == 11
    assert all(pod.healthy for pod in found.values())
    assert found["nvidia-cuda-validator-ls4vc"].status == "Completed"
    assert found["nvidia-operator-validator-xg98r"] == OperatorPod(
        name="nvidia-operator-validator-xg98r",
        component="nvidia-operator-validator",
        node="spark-1",
        phase="Running",
        status="Running",
        ready_containers=1,
        total_containers=1,
        restarts=0,
        waiting=(),
    )


def test_node_feature_discovery_pods_are_told_apart_by_role() -> None:
    components = {pod.component for pod in pods(sample("pods-ready.json")).values()}
    assert {"node-feature-discovery-master", "node-feature-discovery-worker", "gpu-operator"} <= components


@pytest.mark.parametrize(
    ("name", "status", "waiting"),
    [
        (
            "nvidia-operator-validator-th4w7",
            "Init:0/4",
            "driver-validation: PodInitializing",
        ),
        (
            "nvidia-operator-validator-9x2kd",
            "Init:CrashLoopBackOff",
            "toolkit-validation: CrashLoopBackOff: back-off 5m0s restarting failed container=toolkit-validation",
        ),
        (
            "nvidia-device-plugin-daemonset-q8sdf",
            "ImagePullBackOff",
            "nvidia-device-plugin: ImagePullBackOff: Back-off pulling image "
            '"nvcr.io/nvidia/k8s-device-plugin:v0.19.0": ErrImagePull: failed to resolve reference',
        ),
        (
            "gpu-operator-6d59774ff-zzzzz",
            "Pending",
            "scheduling: Unschedulable: 0/2 nodes are available: 2 Insufficient memory.",
        ),
    ],
)
def test_a_stuck_pod_says_what_it_waits_for(name: str, status: str, waiting: str) -> None:
    pod = pods(sample("pods-stuck.json"))[name]
    assert pod.status == status
    assert pod.waiting[0] == waiting
    assert not pod.healthy


def test_a_container_that_keeps_failing_tells_its_exit_status_and_restarts() -> None:
    pod = pods(sample("pods-stuck.json"))["nvidia-operator-validator-9x2kd"]
    assert pod.restarts == 9
    assert "toolkit-validation: Error" in pod.waiting


def test_running_is_not_enough_to_be_healthy() -> None:
    found = pods(sample("pods-stuck.json"))
    assert (found["nvidia-dcgm-exporter-l7wqz"].status, found["nvidia-dcgm-exporter-l7wqz"].healthy) == (
        "Running",
        False,
    )
    assert (found["gpu-feature-discovery-gone1"].status, found["gpu-feature-discovery-gone1"].healthy) == (
        "Terminating",
        False,
    )


def test_a_pod_that_is_not_scheduled_has_no_node() -> None:
    pod = pods(sample("pods-stuck.json"))["gpu-operator-6d59774ff-zzzzz"]
    assert (pod.node, pod.ready_containers, pod.total_containers) == (None, 0, 1)


def test_an_empty_namespace_is_empty_and_no_api_server_is_none() -> None:
    assert GpuOperatorPods().process(printed({"pods": (EMPTY, 0)})) == ()
    assert GpuOperatorPods().process(printed({"pods": ([], 1)})) is None
    assert NetworkOperatorPods().process(printed({"pods": ([], ABSENT)})) is None


def test_each_operator_is_looked_for_in_its_namespace() -> None:
    assert "-n gpu-operator get pods" in GpuOperatorPods().command().job["commands"]["pods"]
    assert "-n nvidia-network-operator get pods" in NetworkOperatorPods().command().job["commands"]["pods"]
    assert "-n elsewhere get pods" in GpuOperatorPods().command(namespace="elsewhere").job["commands"]["pods"]


def test_warnings_come_oldest_first() -> None:
    found = OperatorWarnings().process(printed({"events": (sample("events-warning.json"), 0)}))
    assert found is not None
    assert [event.reason for event in found] == ["FailedScheduling", "FailedCreatePodSandBox"]
    assert found[1] == WarningEvent(
        about="Pod/nvidia-operator-validator-th4w7",
        reason="FailedCreatePodSandBox",
        message="Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: "
        'no runtime for "nvidia" is configured',
        count=14,
        last_seen="2026-11-20T08:10:00Z",
    )


def test_a_ready_cluster_policy_has_no_trouble() -> None:
    assert cluster_policies("clusterpolicy-ready.json") == (ClusterPolicy("cluster-policy", "ready", None),)


def test_only_ready_is_ready_and_the_operator_says_why_it_is_not() -> None:
    found = cluster_policies("clusterpolicy-not-ready.json")
    assert found is not None
    assert [(policy.name, policy.state, policy.ready) for policy in found] == [
        ("cluster-policy", "notReady", False),
        ("second", "ignored", False),
        ("third", None, False),
    ]
    assert found[0].trouble == "OperandNotReady: ClusterPolicy is not ready, states not ready: [state-device-plugin]"


def test_a_part_that_nobody_asked_for_is_no_failure() -> None:
    (policy,) = nic_policies("nicclusterpolicy-ready.json")
    assert policy.ready
    assert policy.lagging == ()
    assert AppliedState("state-SRIOV-device-plugin", "ignore") in policy.applied_states


def test_parts_that_lag_are_named() -> None:
    policy, another, new = nic_policies("nicclusterpolicy-not-ready.json")
    assert [part.name for part in policy.lagging] == ["state-OFED", "state-RDMA-device-plugin"]
    assert (another.state, another.ready) == ("ignore", False)
    assert another.trouble == "unsupported NicClusterPolicy instance name. supported instance name: nic-cluster-policy"
    assert (new.state, new.applied_states, new.trouble) == (None, (), None)


def test_an_operator_that_is_not_installed_has_no_policy_and_no_api_server_gives_none() -> None:
    for fact in (ClusterPolicyState(), NicClusterPolicyState()):
        assert fact.process(printed({"definition": ([], 0), "policies": ([], 1)})) == ()
        assert fact.process(printed({"definition": ([], 1), "policies": ([], 1)})) is None
        defined = (["customresourcedefinition.apiextensions.k8s.io/x"], 0)
        assert fact.process(printed({"definition": defined, "policies": (EMPTY, 0)})) == ()
        assert fact.process(printed({"definition": defined, "policies": ([], 1)})) is None


def test_the_commands_run_in_a_posix_shell_without_k3s() -> None:
    assert shell_accepts(OperatorWarnings().command(namespace="gpu-operator"))
    assert OperatorWarnings().process(run(OperatorWarnings().command(namespace="gpu-operator"))) is None
    for fact in (GpuOperatorPods(), NetworkOperatorPods(), ClusterPolicyState(), NicClusterPolicyState()):
        assert shell_accepts(fact.command())
        assert fact.process(run(fact.command())) is None


def test_a_list_of_another_shape_is_refused() -> None:
    with pytest.raises(FactProcessError):
        pods(['{"items": {}}'])


@settings(deadline=None)
@given(st.data())
def test_garbage_is_understood_or_refused_and_nothing_else(data: st.DataObject) -> None:
    cases: list[tuple[FactBase[Any], str, str]] = [
        (GpuOperatorPods(), "pods", "pods-ready.json"),
        (GpuOperatorPods(), "pods", "pods-stuck.json"),
        (OperatorWarnings(), "events", "events-warning.json"),
        (ClusterPolicyState(), "policies", "clusterpolicy-not-ready.json"),
        (NicClusterPolicyState(), "policies", "nicclusterpolicy-not-ready.json"),
    ]
    fact, section, name = data.draw(st.sampled_from(cases))
    text = "\n".join(sample(name))
    lines = data.draw(altered(text) | damaged([text]) | st.lists(words))
    status = data.draw(st.sampled_from([0, 0, 0, 1, ABSENT]))
    found = process(fact, printed({"definition": (["customresourcedefinition/x"], 0), section: (lines, status)}))
    json.dumps([value.to_json() for value in found or ()])
