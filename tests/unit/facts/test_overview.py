"""The overview: its parts are those of the facts it is made of, and none can spoil another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.helm import HelmReleases
from gb10.facts.identity import NodeIdentity
from gb10.facts.overview import CLUSTER, MARK, NODE_PARTS, RELEASES, NodeOverview
from gb10.facts.reading.operators import ClusterPolicy
from gb10.facts.reading.overview import Overview
from tests.unit.facts.reading import damaged, process, run, shell_accepts


@pytest.fixture(scope="module")
def here() -> list[str]:
    """What this machine prints."""
    return run(NodeOverview().command())


def test_the_command_is_a_shell_command_that_asks_for_every_part() -> None:
    command = NodeOverview().command()
    assert shell_accepts(command)
    for part in (*NODE_PARTS, CLUSTER, RELEASES):
        assert f"p {part} " in command.get_raw_value()


def test_a_machine_that_is_no_node_has_an_overview(here: list[str]) -> None:
    found = NodeOverview().process(here)
    assert found.identity is not None
    assert found.identity.machine_id == NodeIdentity().process(run(NodeIdentity().command())).machine_id
    assert found.troubles == {}
    assert json.loads(json.dumps(found.to_json()))["identity"]["hostname"] == found.identity.hostname


def test_the_cluster_is_asked_only_where_a_server_is(here: list[str]) -> None:
    assert f"{MARK}{CLUSTER}" not in here
    assert NodeOverview().process(here).nodes is None


def test_a_part_that_is_not_understood_fails_no_other(here: list[str]) -> None:
    start = here.index(f"{MARK}gpu")
    end = next((at for at in range(start + 1, len(here)) if here[at].startswith(MARK)), len(here))
    found = NodeOverview().process([*here[: start + 1], "@@gb10 gpus", "no row", "", "@@gb10= 0", *here[end:]])
    assert found.gpu is None
    assert list(found.troubles) == ["gpu"]
    assert found.identity is not None


def with_cluster(here: list[str], items: list[dict[str, Any]], status: int = 0) -> Overview:
    """An overview whose API server answers with these objects."""
    lines = [f"@@gb10 {CLUSTER}", json.dumps({"items": items}) if status == 0 else "", "", f"@@gb10= {status}"]
    found: Overview = NodeOverview().process([*here, f"{MARK}{CLUSTER}", *lines])
    return found


def named(kind: str, name: str, namespace: str | None = None, **other: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"kind": kind, "metadata": {"name": name, **place}, **other}


POD = {"spec": {"containers": [{"name": "main"}]}, "status": {"phase": "Pending"}}


def test_one_answer_of_the_api_server_tells_of_nodes_policies_and_the_operators_pods(here: list[str]) -> None:
    found = with_cluster(
        here,
        [
            named("Node", "spark-1"),
            named("Pod", "a", "gpu-operator", **POD),
            named("Pod", "b", "nvidia-network-operator", **POD),
            named("Pod", "c", "kube-system", **POD),
            named("ClusterPolicy", "cluster-policy", status={"state": "ready"}),
        ],
    )
    assert found.nodes
    assert found.gpu_operator_pods
    assert found.network_operator_pods
    assert [node.name for node in found.nodes] == ["spark-1"]
    assert [pod.name for pod in (*found.gpu_operator_pods, *found.network_operator_pods)] == ["a", "b"]
    assert found.cluster_policies == (ClusterPolicy("cluster-policy", "ready", None),)
    assert found.nic_cluster_policies == ()


def test_an_api_server_that_does_not_answer_is_no_empty_cluster(here: list[str]) -> None:
    found = with_cluster(here, [], status=1)
    assert (found.nodes, found.cluster_policies, found.gpu_operator_pods) == (None, None, None)
    assert found.troubles == {}


def test_a_pod_that_is_not_understood_hides_no_node(here: list[str]) -> None:
    found = with_cluster(here, [named("Node", "spark-1"), named("Pod", "a", "gpu-operator")])
    assert list(found.troubles) == ["gpu_operator_pods"]
    assert found.nodes


def test_half_an_overview_is_none(here: list[str]) -> None:
    start = here.index(f"{MARK}identity")
    end = next((at for at in range(start + 1, len(here)) if here[at].startswith(MARK)), len(here))
    with pytest.raises(FactProcessError, match="nothing about identity"):
        NodeOverview().process([*here[:start], *here[end:]])


def test_values_of_helm_releases_stay_on_the_node() -> None:
    assert HelmReleases().command(charts=()).get_raw_value() in NodeOverview().command().get_raw_value()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_is_an_error_of_the_host_and_never_a_crash(here: list[str], data: st.DataObject) -> None:
    process(NodeOverview(), data.draw(damaged(here)))
