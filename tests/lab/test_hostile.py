"""Attacks from a container and from a login user: root of the node follows them nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gb10.lab import serving as served
from tests.lab.conftest import LabUnderTest
from tests.lab.observe import shell
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
ROOT_FILES = "find /root /etc -xdev -printf '%p %m %u %g %s %C@ %l\\n' | sort"  # whatever a link may lead to
HUB = f"{served.HOME}/hub"


@pytest.fixture
def nodes(lab: LabUnderTest, host_of: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """The head with models, and the worker with the image."""
    for name in (HEAD, WORKER):
        lab.lab.download(name)
    hosts = {name: host_of(name) for name in (HEAD, WORKER)}
    yield hosts
    shell(hosts[WORKER], f"rm -rf {served.HOME}/* /root/pwned")


def in_container(host: Any, script: str) -> None:
    """Run a script as root in a container that has the cache of models, without rights on the node."""
    tools = "-e PATH=/usr/bin -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro"  # the image has no shell
    options = f"--rm --network none -v {served.HOME}:/hf {tools}"
    container = host.run(f"sudo docker run {options} {served.IMAGE} /usr/bin/sh -c %s", script)
    assert container.rc == 0, container.stderr


@pytest.mark.parametrize(
    "attack",
    [
        "mv /hf/hub /hf/aside; ln -s /root/.ssh /hf/hub",
        "n='/hf/a\npre-xfer exec = touch /root/pwned\n#'; mkdir -p \"$n\"; mv /hf/hub /hf/aside; "
        f'ln -s "{served.HOME}/${{n#/hf/}}" /hf/hub',
        "for d in /hf/hub/models--*; do mv $d /hf/aside-${d##*/}; ln -s /root/.ssh $d; done",
        "for d in /hf/hub/models--*/snapshots; do mv $d $d.aside; ln -s /etc $d; done",
        "ln -s /etc /hf/hub/.gb10-copy",
    ],
    ids=["hub", "newline", "model", "folder-in-a-model", "staging"],
)
def test_a_container_leads_no_copy_elsewhere(nodes: dict[str, Any], product: Product, attack: str) -> None:
    in_container(nodes[WORKER], attack)
    shell(nodes[WORKER], "mkdir -p /root/.ssh")
    before = shell(nodes[WORKER], ROOT_FILES)
    done = product.gb10("sync", "models", HEAD, WORKER)
    assert done.status != 0, done.output
    assert shell(nodes[WORKER], ROOT_FILES) == before


def test_a_container_leads_no_listing_elsewhere(nodes: dict[str, Any], product: Product) -> None:
    in_container(nodes[HEAD], "mv /hf/hub /hf/aside; ln -s /root /hf/hub")
    done = product.gb10("sync", "models", HEAD, WORKER)
    shell(nodes[HEAD], f"rm {HUB}; mv {served.HOME}/aside {HUB}")
    assert (done.status, "PATH_LINKED" in done.output) == (6, True), done.output
    assert f"{HUB} is a link" in done.output


def test_a_user_gets_no_file_of_root_by_a_link(nodes: dict[str, Any], product: Product, tmp_path: Path) -> None:
    host = nodes[WORKER]
    shell(host, "useradd --create-home --shell /bin/bash eve")
    shell(host, "su eve -c 'mkdir -m 700 ~/.ssh; ln -s /etc/shadow ~/.ssh/authorized_keys'")
    before = shell(host, ROOT_FILES)
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEjxS3m1m8QH2mU3q0e3k6rVw0m3zW3Wb2p3q4r5s6t7 eve\n")
    keyed = product.with_data(node_user_name="eve", node_user_keys=[str(key)])
    done = keyed.pyinfra("-y", "--fail-percent", "0", f"--limit={WORKER}", "gb10.deploys.node")
    assert done.status != 0
    assert "PATH_LINKED" in done.output
    assert "root:" not in done.output + shell(host, "cat /home/eve/.ssh/authorized_keys.new || true")
    assert shell(host, ROOT_FILES) == before

    shell(host, "su eve -c 'rm -r ~/.ssh; ln -s /root ~/.ssh'")
    before = shell(host, ROOT_FILES)
    done = keyed.pyinfra("-y", "--fail-percent", "0", f"--limit={WORKER}", "gb10.deploys.node")
    assert done.status != 0
    assert shell(host, ROOT_FILES) == before
    shell(host, "userdel -r eve")
