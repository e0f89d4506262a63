"""A node with `docker: true` runs its pods as containers."""

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


def test_a_pod_has_its_containers_until_it_is_deleted(docker: ToyDocker) -> None:
    containers = PodContainers(Engine())
    containers.keep([pod("web", "u1"), pod("db", "u2")])
    assert docker.names() == {"k8s_c_web_default_u1_0", "k8s_c_db_default_u2_0"}
    containers.keep([pod("db", "u2")])
    assert docker.names() == {"k8s_c_db_default_u2_0"}


def test_only_containers_of_existing_pods_survive_a_restart(docker: ToyDocker) -> None:
    PodContainers(Engine()).keep([pod("web", "u1"), pod("db", "u2")])
    before = dict(docker.containers)
    PodContainers(Engine()).keep([pod("web", "u1")])
    assert docker.containers == {i: c for i, c in before.items() if "u1" in c["Name"]}


def test_removed_containers_come_back_at_the_next_check(docker: ToyDocker) -> None:
    containers = PodContainers(Engine())
    containers.keep([pod("web")])
    docker.forget()
    containers.keep([pod("web")])
    assert docker.names() == set()
    containers.forget()
    containers.keep([pod("web")])
    assert docker.names() == {"k8s_c_web_default_u1_0"}


def test_a_failing_docker_makes_the_node_not_ready(machines: Machines, cluster: Server, docker: ToyDocker) -> None:
    agent = machines.agent(cluster, "dock-0", docker=True)
    agent.environment["DOCKER_HOST"] = f"unix://{docker.server_address!s}"
    agent.start("agent")
    eventually(lambda: agent.has_logged("Successfully registered node dock-0"))
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


def test_removing_a_node_removes_its_pods(machines: Machines, cluster: Server, docker: ToyDocker) -> None:
    agent = machines.agent(cluster, "dock-1", docker=True)
    agent.environment["DOCKER_HOST"] = f"unix://{docker.server_address!s}"
    agent.start("agent")
    spec = {"nodeName": "dock-1", "containers": [{"name": "c", "image": "i"}]}
    eventually(lambda: agent.has_logged("Successfully registered node dock-1"))
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost"}, "spec": spec})
    eventually(lambda: len(docker.names()) == 1)
    cluster.kubectl("delete", "node", "dock-1")
    eventually(lambda: docker.names() == set())
    assert "NotFound" in cluster.refused("get", "pod", "lost")
