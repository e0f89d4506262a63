"""Fixtures: a real SSH server on this machine, and a pyinfra project that uses it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.pyinfra_project import Project
from tests.unit.ssh_server import SshServer


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[SshServer]:
    (tmp_path / "sshd").mkdir()
    server = SshServer(tmp_path / "sshd")
    yield server
    server.stop()


@pytest.fixture
def project(tmp_path: Path, ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith("PYINFRA_")]:
        monkeypatch.delenv(name)
    return Project(root, ssh_server)
