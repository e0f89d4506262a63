"""Fixtures: the lab under test, the product on it, and its nodes as testinfra sees them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import testinfra

from gb10.controller.paths import private_folder
from gb10.lab import state as states
from gb10.lab.lab import Lab
from gb10.lab.mirror import MirrorControl
from gb10.lab.node import USER
from gb10.lab.paths import labs_folder
from gb10.lab.shell import Docker
from gb10.lab.state import LabState
from tests.lab.attended import HEAD, SETTINGS, WORKER
from tests.lab.console import on_console
from tests.lab.product import Product

HostOf = Callable[[str], Any]
# Everything that a bootstrap inspects on a node, with timestamps. On the head also the cluster's nodes.
STATE_OF_K3S = r"""
systemctl show -p ActiveState -p UnitFileState -p ExecMainStartTimestampMonotonic k3s k3s-agent docker
find /etc/rancher /etc/systemd/system /usr/local/bin /var/lib/rancher/k3s/server/token -printf '%p %m %u %s %C@\n'
if systemctl -q is-active k3s; then
    KUBECACHEDIR=/dev/null k3s kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid} {.spec}
{.metadata.labels} {.status.nodeInfo} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
fi
"""


@dataclass
class LabUnderTest:
    """The lab of this test process."""

    lab: Lab
    state: LabState
    is_bare: bool = False  # all nodes are new installations on which only refused commands ran
    bootstrapped: list[str] | None = None  # state of K3s after the last bootstrap of the fixture `cluster`

    @property
    def mirror_url(self) -> str:
        return self.state.mirror_url

    @property
    def lock_file(self) -> Path:
        """Return the lock file of this lab's inventory."""
        return self.state.folder / "gb10.lock"

    def address(self, name: str, network: str = "management") -> str:
        """Return the address of a node on one of the lab's networks."""
        return self.state.node(name).address(network)

    def wipe(self, name: str, keep_data: bool = False, trust: bool = False) -> None:
        """Reinstall a node."""
        self.lab.wipe(name, keep_data=keep_data, trust=trust)

    def wipe_all(self) -> None:
        """Reinstall every node and trust its new host key."""
        for node in self.state.nodes:
            self.lab.wipe(node.name, trust=True)

    def k3s_state(self) -> list[str]:
        """Return the state of K3s on each node, read without the product."""
        docker = Docker(self.state.docker_host)
        return [docker.inside(node.container, f"{STATE_OF_K3S}true") for node in self.state.nodes]

    def root(self, name: str) -> Path:
        """Return the path of a node's root folder on this machine."""
        container = self.state.node(name).container
        pid = Docker(self.state.docker_host)("inspect", "-f", "{{.State.Pid}}", container).strip()
        return Path(f"/proc/{pid}/root")


@pytest.fixture(scope="session")
def lab() -> Iterator[LabUnderTest]:
    """A lab for this test process. Take it down at the end unless it was up before."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    given = os.environ.get("GB10_LAB", "test")
    name = f"{given}-{worker}" if worker else given
    os.environ["GB10_LAB"] = name
    was_up = states.load(name) is not None
    lab = Lab(name)
    state = lab.up(2)
    yield LabUnderTest(lab, state)
    if not was_up:
        lab.down()


@pytest.fixture
def over_ssh(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> HostOf:
    """Return the testinfra host of a node, by its name, over SSH and independently of pyinfra."""
    config = tmp_path_factory.mktemp("ssh") / "config"
    config.write_text(
        f"Host *\n  IdentityFile {lab.state.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {lab.state.known_hosts}\n"
        "  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 10\n"
        # Every command makes a connection, and ssh's default key exchange takes most of its time.
        "  KexAlgorithms curve25519-sha256\n"
    )
    return lambda name: testinfra.get_host(f"ssh://{USER}@{lab.address(name)}", ssh_config=str(config))


@pytest.fixture
def host_of(lab: LabUnderTest, over_ssh: HostOf) -> HostOf:
    """Return the testinfra host of a node, by its name, without SSH if possible. Tests of SSH use over_ssh."""
    docker = Docker(lab.state.docker_host)

    @cache  # as in testinfra.get_host(): `with host.sudo()` applies to all calls for the same node
    def host(name: str) -> Any:
        container = lab.state.node(name).container
        return on_console(docker, container) if docker.reaches_into(container) else over_ssh(name)

    return host


@pytest.fixture
def root_of(lab: LabUnderTest) -> Callable[[str], Path]:
    """Return the path of a node's root folder on this machine, by the node's name."""
    return lab.root


@pytest.fixture
def fresh_nodes(lab: LabUnderTest) -> None:
    """All nodes are new installations."""
    lab.wipe_all()


@pytest.fixture
def bare_nodes(lab: LabUnderTest, host_of: HostOf, request: pytest.FixtureRequest) -> Iterator[None]:
    """All nodes are new installations. The test must not change them, so that the next such test can use them too."""
    if not lab.is_bare:
        lab.wipe_all()
    lab.is_bare = False
    failed = request.session.testsfailed
    yield
    for node in lab.state.nodes:
        assert not host_of(node.name).file("/usr/local/bin/k3s").exists
        assert host_of(node.name).run("sudo ls /etc/rancher").rc != 0
    lab.is_bare = request.session.testsfailed == failed  # a failed test has not cleaned up


@pytest.fixture(autouse=True)
def other_tests_change_nodes(request: pytest.FixtureRequest) -> None:
    """Nodes are not bare any more after a test without the fixture `bare_nodes`."""
    if "bare_nodes" not in request.fixturenames and "lab" in request.fixturenames:
        request.getfixturevalue("lab").is_bare = False


@pytest.fixture
def whole(lab: LabUnderTest, tmp_path: Path) -> Product:
    """The product with the lab's inventory, which enables both operators. It runs in a new folder, and has no pins."""
    lab.lock_file.unlink(missing_ok=True)
    environment = {"GB10_LAB": lab.state.name, "GB10_BACKUPS": str(labs_folder() / lab.state.name / "backups")}
    return Product(Path(str(files("gb10.lab") / "inventory.py")), tmp_path, environment)


@pytest.fixture
def product(whole: Product) -> Product:
    """The product with both operators disabled."""
    return whole.with_data()


@pytest.fixture
def cluster(lab: LabUnderTest, product: Product) -> None:
    """A running cluster of the default version. Reuse and repair the existing one if possible."""
    if lab.bootstrapped and lab.bootstrapped == lab.k3s_state():
        return
    if product.gb10("bootstrap").status != 0:
        lab.wipe_all()
        done = product.gb10("bootstrap")
        assert done.status == 0, done.output
    lab.bootstrapped = lab.k3s_state()
    assert lab.bootstrapped[0].count(" True\n") == len(lab.state.nodes), "the state must show which nodes are Ready"


@pytest.fixture
def served(lab: LabUnderTest, whole: Product) -> Callable[..., Product]:
    """Return a function that makes two new nodes serve a model, with or without K3s, and returns the product."""

    def ready(*, k3s: bool, **more: Any) -> Product:
        whole.environment["GB10_BACKUPS"] = str(whole.folder / "backups")  # all labs have the same node names
        product = whole.with_data(**{**SETTINGS, **more})
        lab.wipe_all()
        commands = [["provision", HEAD, WORKER], *([["bootstrap"]] if k3s else []), ["serving", "cluster"]]
        for command in commands:
            if command[0] == "serving":
                for name in (HEAD, WORKER):
                    lab.lab.download(name)
            done = product.gb10(*command)
            assert done.status == 0, done.output
        return product

    return ready


@pytest.fixture
def mirror(lab: LabUnderTest) -> Iterator[MirrorControl]:
    """The control of the lab's mirror, without faults before and after the test."""
    control = MirrorControl(lab.state.mirror_control, lab.state.mirror_folder)
    control.clear()
    yield control
    control.clear()


@pytest.fixture
def logs() -> Path:
    """The folder of the commands' logs."""
    return private_folder("log")
