"""A node whose restore was killed is recognised by the host keys in its backup, encrypted or not."""

from __future__ import annotations

import io
import time
from pathlib import Path

import paramiko
import pyrage
import pytest

from gb10.controller.backups import know_host
from gb10.controller.inventory import load_inventory
from gb10.operations.backups import age
from gb10.programs.archive.files import digest
from gb10.programs.archive.manifest import summary_of
from gb10.programs.archive.reading import check
from gb10.programs.backups import store
from tests.unit.programs.test_backup_proof import MACHINE, made
from tests.unit.pyinfra_project import Project


@pytest.fixture
def old(project: Project) -> paramiko.PKey:
    """Return the host key that the node has again and that is not in the controller's known_hosts."""
    key, new = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    project.server.known_hosts.write_text(line(project, new))
    project.server.host_keys = [key]
    return key


def line(project: Project, key: paramiko.PKey) -> str:
    return f"[127.0.0.1]:{project.server.port} {key.get_name()} {key.get_base64()}\n"


def key_file(path: Path) -> Path:
    path.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    return path


def keep_backup(node: Path, host_key: paramiko.PKey, key: Path) -> None:
    """Keep a backup of a node with a host key on the controller, encrypted for the holder of an age key."""
    (node / "etc/ssh").mkdir(parents=True)
    (node / "etc/hostname").write_text("spark-1\n")
    (node / "etc/ssh/ssh_host_ecdsa_key.pub").write_text(f"{host_key.get_name()} {host_key.get_base64()}\n")
    name = time.strftime("spark-1-%Y%m%dT%H%M%SZ", time.gmtime())
    plain = made(node, name, role=None, cluster=None, machine=MACHINE)
    sealed = io.BytesIO()
    recipient = str(pyrage.x25519.Identity.from_str(key.read_text().strip()).to_public())
    age.encrypt(io.BytesIO(plain), sealed, [recipient])
    content = sealed.getvalue()
    manifest = check(io.BytesIO(plain))
    summary = summary_of(manifest, digest(content), len(content), True)
    store.receive(str(node.parent / "state/backups"), summary, [content])


def test_the_host_key_is_read_from_an_encrypted_backup(project: Project, old: paramiko.PKey, tmp_path: Path) -> None:
    key = key_file(tmp_path / "age.key")
    keep_backup(tmp_path / "spark-1", old, key)
    project.inventory(spark_1={"backup_identity_file": str(key)})
    know_host(load_inventory("inventory.py").hosts[0])
    assert project.server.known_hosts.read_text() == line(project, old)


def test_a_wrong_age_key_changes_nothing(project: Project, old: paramiko.PKey, tmp_path: Path) -> None:
    keep_backup(tmp_path / "spark-1", old, key_file(tmp_path / "age.key"))
    before = project.server.known_hosts.read_text()
    project.inventory(spark_1={"backup_identity_file": str(key_file(tmp_path / "other.key"))})
    know_host(load_inventory("inventory.py").hosts[0])
    assert project.server.known_hosts.read_text() == before
