"""A node with `docker: true`: its pods are containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.kube.engine import Engine
from gb10.lab.kube.pods import PodContainers
from tests.unit.lab.kube.kube_machines import Machines, Server, eventually
from tests.unit.lab.kube.toy_docker import ToyDocker


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyDocker]:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with ToyDocker(tmp_path / "docker.sock") as engine:
        yield engine
        engine.shutdown()


def pod(name: str, uid: str = "u1", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": uid}
    return {"metadata": meta, "spec": {"containers": [{"name": "c"}], **spec}}


def test_a_pod_has_its_containers_until_it_is_gone(docker: ToyDocker) -> None:
    containers = PodContainers(Engine())
    containers.keep([pod("web", "u1"), pod("db", "u2")])
    assert docker.names() == {"k8s_c_web_default_u1_0", "k8s_c_db_default_u2_0"}
    containers.keep([pod("db", "u2")])
    assert docker.names() == {"k8s_c_db_default_u2_0"}


def test_containers_of_an_earlier_run_are_kept_and_those_of_no_pod_removed(docker: ToyDocker) -> None:
    PodContainers(Engine()).keep([pod("web", "u1"), pod("db", "u2")])
    before = dict(docker.containers)
    PodContainers(Engine()).keep([pod("web", "u1")])
    assert docker.containers == {i: c for i, c in before.items() if "u1" in c["Name"]}


def test_containers_that_somebody_removed_come_back_at_the_next_look(docker: ToyDocker) -> None:
    containers = PodContainers(Engine())
    containers.keep([pod("web")])
    docker.forget()
    containers.keep([pod("web")])
    assert docker.names() == set()
    containers.look_again()
    containers.keep([pod("web")])
    assert docker.names() == {"k8s_c_web_default_u1_0"}


def test_a_docker_that_fails_makes_the_node_not_ready_until_it_works_again(
    machines: Machines, cluster: Server, docker: ToyDocker
) -> None:
    agent = machines.agent(cluster, "dock-0", docker=True)
    agent.environment["DOCKER_HOST"] = f"unix://{docker.server_address!s}"
    agent.start("agent")
    eventually(lambda: agent.said("Successfully registered node dock-0"))
    assert cluster.get("node", "dock-0")["status"]["nodeInfo"]["containerRuntimeVersion"] == "docker://26.1.5"

    docker.broken = True
    spec = {"nodeName": "dock-0", "containers": [{"name": "c", "image": "i"}]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "docked"}, "spec": spec})
    eventually(lambda: cluster.ready("dock-0") == "False")
    assert "out of order" in cluster.kubectl("get", "node", "dock-0", "-o", "yaml")

    docker.broken = False
    cluster.kubectl("wait", "--for=condition=Ready", "node/dock-0", "pod/docked", "--timeout=10s")
    (status,) = cluster.get("pod", "docked")["status"]["containerStatuses"]
    assert status["containerID"].removeprefix("docker://") in docker.containers

    cluster.kubectl("delete", "pod", "docked")
    eventually(lambda: docker.names() == set())


def test_removing_a_node_takes_the_pods_from_it(machines: Machines, cluster: Server, docker: ToyDocker) -> None:
    agent = machines.agent(cluster, "dock-1", docker=True)
    agent.environment["DOCKER_HOST"] = f"unix://{docker.server_address!s}"
    agent.start("agent")
    spec = {"nodeName": "dock-1", "containers": [{"name": "c", "image": "i"}]}
    eventually(lambda: agent.said("Successfully registered node dock-1"))
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost"}, "spec": spec})
    eventually(lambda: len(docker.names()) == 1)
    cluster.kubectl("delete", "node", "dock-1")
    eventually(lambda: docker.names() == set())
    assert "NotFound" in cluster.refused("get", "pod", "lost")
