"""known_hosts follows a restored node by what a connection proves, not by what the node or its backup says."""

from __future__ import annotations

import paramiko
import pytest
from pyinfra.api import Host, Inventory

from gb10.operations.backups.restoring import follow_host_keys
from gb10.operations.kit.known_hosts import HostKey
from tests.unit.ssh_server import SshServer


@pytest.fixture
def node(ssh_server: SshServer) -> Host:
    inventory = Inventory((["spark-2"], {}), spark_2=([("spark-2", ssh_server.host_data())], {}))
    return inventory.get_host("spark-2")


def public(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.get_base64())


def line(name: str, key: paramiko.PKey) -> str:
    return f"{name} {key.get_name()} {key.get_base64()}\n"


def test_the_key_of_another_host_cannot_be_claimed(ssh_server: SshServer, node: Host) -> None:
    other = paramiko.ECDSAKey.generate()
    before = ssh_server.known_line() + line("spark-1", other)
    ssh_server.known_hosts.write_text(before)
    ssh_server.host_keys = [paramiko.ECDSAKey.generate()]
    assert not follow_host_keys(node, [public(other)])
    assert ssh_server.known_hosts.read_text() == before


def test_the_old_keys_that_a_node_proves_are_written(ssh_server: SshServer, node: Host) -> None:
    other, old, lost = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate(), paramiko.RSAKey.generate(2048)
    name = f"[127.0.0.1]:{ssh_server.port}"
    new = ssh_server.known_line()
    ssh_server.known_hosts.write_text(new + new.replace(name, "spark-2-rail-a") + line("spark-1", other))
    ssh_server.host_keys = [old]
    assert follow_host_keys(node, [public(old), public(lost)])
    after = line(name, old) + line("spark-2-rail-a", old) + line("spark-1", other)
    assert ssh_server.known_hosts.read_text() == after


def test_a_silent_node_changes_nothing(ssh_server: SshServer, node: Host) -> None:
    ssh_server.stop()
    before = ssh_server.known_hosts.read_text()
    assert not follow_host_keys(node, [public(ssh_server.host_keys[0])])
    assert ssh_server.known_hosts.read_text() == before
