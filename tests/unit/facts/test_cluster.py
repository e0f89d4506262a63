"""The cluster's nodes, from `kubectl get nodes -o json`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.cluster import ClusterNodes, ManifestDrift, NodePasswords
from gb10.facts.reading.cluster import ClusterNode
from tests.unit.facts.reading import answered


def node(name: str, ready: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": "true", "a": "b"}},
        "spec": spec,
        "status": {
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": ready, "reason": "KubeletNotReady", "message": "the kubelet is Ready soon"},
            ],
            "addresses": [{"type": "InternalIP", "address": "192.168.1.11"}, {"type": "Hostname", "address": name}],
            "nodeInfo": {"kubeletVersion": "v1.36.4+k3s1", "containerRuntimeVersion": "docker://29.5.2"},
            "allocatable": {"cpu": "20", "nvidia.com/gpu": "1"},
        },
    }


def printed(text: str, status: int = 0, name: str = "nodes") -> list[str]:
    return answered({name: [status, text]})


def read(*nodes: dict[str, Any]) -> tuple[ClusterNode, ...]:
    found = ClusterNodes().process(printed(json.dumps({"items": nodes}, indent=2)))
    assert found is not None
    return found


def test_a_node_is_read_from_its_conditions_and_labels() -> None:
    (found,) = read(node("spark-1"))
    assert (found.name, found.ready, found.cordoned, found.reason) == ("spark-1", True, False, None)
    assert (found.roles, found.version, found.runtime) == (("control-plane",), "v1.36.4+k3s1", "docker://29.5.2")
    assert (found.internal_ip, found.allocatable["nvidia.com/gpu"]) == ("192.168.1.11", "1")


def test_a_node_is_not_ready_although_the_word_ready_is_all_over_it() -> None:
    for status in ("False", "Unknown"):
        (found,) = read(node("spark-1", ready=status))
        assert not found.ready
        assert found.reason == "the kubelet is Ready soon"


def test_a_node_without_a_ready_condition_is_not_ready() -> None:
    (found,) = read({"metadata": {"name": "spark-1"}})
    assert not found.ready


def test_a_cordoned_node_is_ready_and_cordoned() -> None:
    (found,) = read(node("spark-2", unschedulable=True))
    assert found.ready
    assert found.cordoned


def test_no_api_server_is_none_and_no_nodes_is_empty() -> None:
    assert ClusterNodes().process(printed("", status=1)) is None
    assert read() == ()


def test_node_passwords_are_the_secrets_of_that_name() -> None:
    text = "secret/spark-2.node-password.k3s\nsecret/k3s-serving\nsecret/spark-1.node-password.k3s"
    assert NodePasswords().process(printed(text, name="secrets")) == ("spark-1", "spark-2")
    assert NodePasswords().process(printed("", status=1, name="secrets")) is None


def test_a_drift_is_told_by_the_exit_status_of_kubectl_diff() -> None:
    drifts = [ManifestDrift().process(printed("", status, name="diff")) for status in (0, 1, 2, 127)]
    assert drifts == [False, True, None, None]


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_other_json_is_a_fact_error_of_that_host(value: object) -> None:
    with contextlib.suppress(FactProcessError):
        ClusterNodes().process(printed(json.dumps(value)))
