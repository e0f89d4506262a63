"""Fixtures: the stand-in for K3s as an executable, and clusters of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gb10.lab.clients import clients_folder
from gb10.lab.kube.build import build_k3s
from tests.unit.lab.kube.kube_machines import VERSION, Machines, Server, eventually


@pytest.fixture(scope="session")
def tools() -> Path:
    return clients_folder()


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("k3s") / "k3s"
    build_k3s(path, VERSION)
    return path


@pytest.fixture
def machines(tmp_path: Path, binary: Path, tools: Path) -> Iterator[Machines]:
    made = Machines(tmp_path, binary, tools)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, binary: Path, tools: Path) -> Iterator[Server]:
    """A server with one agent, gpu-0, shared by a module's tests. Each test uses its own names."""
    made = Machines(tmp_path_factory.mktemp("cluster"), binary, tools)
    server = made.server()
    server.up(disable=["traefik", "servicelb"])
    agent = made.agent(server, "gpu-0")
    agent.start("agent")
    eventually(lambda: agent.has_logged("Successfully registered node gpu-0"))
    yield server
    made.stop()
