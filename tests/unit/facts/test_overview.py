"""The overview: its parts are those of the facts it is made of, and none can spoil another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.identity import NodeIdentity
from gb10.facts.overview import CLUSTER, CLUSTER_PARTS, NODE_PARTS, RELEASES, NodeOverview
from gb10.facts.reading.k3s import BINARY, KUBECONFIG
from gb10.facts.reading.operators import ClusterPolicy
from gb10.facts.reading.overview import Overview
from tests.unit.facts.reading import altered, process, run, shell_accepts

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def here() -> Answer:
    """What this machine answers."""
    answer: Answer = json.loads(run(NodeOverview().command())[0])
    return answer


def test_the_command_asks_for_every_part() -> None:
    command = NodeOverview().command()
    assert shell_accepts(command)
    assert [*command.job["parts"], *command.job["cluster"]] == [*NODE_PARTS, CLUSTER, RELEASES]


def test_a_machine_that_is_no_node_has_an_overview(here: Answer) -> None:
    found = NodeOverview().understand(here)
    assert found.identity is not None
    assert found.identity.machine_id == NodeIdentity().process(run(NodeIdentity().command())).machine_id
    assert found.troubles == {}
    assert json.loads(json.dumps(found.to_json()))["identity"]["hostname"] == found.identity.hostname


def test_the_cluster_is_asked_only_where_a_server_is(here: Answer) -> None:
    assert CLUSTER not in here
    assert NodeOverview().understand(here).nodes is None


def test_a_server_is_asked_for_its_cluster_and_releases(tmp_path: Path) -> None:
    (tmp_path / "k3s").write_text('#!/bin/sh\n[ "$5" = crd ] || echo \'{"items": []}\'\n')
    (tmp_path / "k3s").chmod(0o755)
    launch = NodeOverview().command()
    launch.text = launch.text.replace(KUBECONFIG, str(tmp_path)).replace(BINARY, str(tmp_path / "k3s"))
    found = NodeOverview().process(run(launch))
    assert (found.nodes, found.cluster_policies, found.releases, found.troubles) == ((), (), (), {})


def test_a_part_that_is_not_understood_fails_no_other(here: Answer) -> None:
    found = NodeOverview().understand({**here, "gpu": {"gpus": [0, "no row"]}})
    assert found.gpu is None
    assert list(found.troubles) == ["gpu"]
    assert found.identity is not None


def with_cluster(here: Answer, items: list[dict[str, Any]], status: int = 0, releases: Any = None) -> Overview:
    """An overview whose API server answers with these objects."""
    cluster = {CLUSTER: [status, json.dumps({"items": items}) if status == 0 else ""]}
    found: Overview = NodeOverview().understand({**here, CLUSTER: cluster, RELEASES: releases})
    return found


def named(kind: str, name: str, namespace: str | None = None, **other: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"kind": kind, "metadata": {"name": name, **place}, **other}


POD = {"spec": {"containers": [{"name": "main"}]}, "status": {"phase": "Pending"}}


def test_one_answer_of_the_api_server_tells_of_nodes_policies_and_the_operators_pods(here: Answer) -> None:
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


def test_an_api_server_that_does_not_answer_is_no_empty_cluster(here: Answer) -> None:
    found = with_cluster(here, [], status=1)
    assert (found.nodes, found.cluster_policies, found.gpu_operator_pods) == (None, None, None)
    assert found.troubles == {}


def test_a_pod_that_is_not_understood_hides_no_node(here: Answer) -> None:
    found = with_cluster(here, [named("Node", "spark-1"), named("Pod", "a", "gpu-operator")])
    assert list(found.troubles) == ["gpu_operator_pods"]
    assert found.nodes


def test_an_answer_of_the_api_server_that_is_none_hides_no_node_part(here: Answer) -> None:
    answer = {**here, CLUSTER: {CLUSTER: [0, "oops"]}, RELEASES: {"error": "torn"}}
    found = NodeOverview().understand(answer)
    assert {*found.troubles} == {*CLUSTER_PARTS, RELEASES}
    assert "torn" in found.troubles[RELEASES]
    assert found.identity is not None


def test_half_an_overview_is_none(here: Answer) -> None:
    with pytest.raises(FactProcessError, match="nothing about identity"):
        NodeOverview().understand({name: part for name, part in here.items() if name != "identity"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_is_an_error_of_the_host_and_never_a_crash(here: Answer, data: st.DataObject) -> None:
    process(NodeOverview(), data.draw(altered(json.dumps(here))))
