"""Streams of bytes to and from programs on a node, over real SSH."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.context import ctx_host, ctx_state

from gb10.facts.reading.launcher import Launch
from gb10.operations.kit.peers import run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import digest
from gb10.programs.archive.manifest import summary_of
from tests.unit.programs.test_archive import made
from tests.unit.ssh_server import SshServer

NODE, ID = "spark-2", "spark-2-20260102T030405Z"
KEEPER = "gb10.programs.backups.keeper"


@pytest.fixture
def host(ssh_server: SshServer) -> Iterator[Host]:
    """A connected host of pyinfra."""
    state = State(Inventory(([("spark-1", ssh_server.host_data())], {})), Config())
    with ctx_state.use(state):
        connect_all(state)
        host = state.inventory.get_host("spark-1")
        with ctx_host.use(host):
            yield host
        disconnect_all(state)


def launch(function: str, root: Path, **job: Any) -> Launch:
    return Launch(f"{KEEPER}:{function}", {"root": str(root), **job}, seconds=60, streams=True, guarded=[str(root)])


def keep(root: Path, summary: dict[str, Any]) -> Launch:
    return launch("keep", root, summary=summary, where="spark-1", count=None, days=None)


@pytest.fixture
def backup(tmp_path: Path) -> tuple[bytes, dict[str, Any]]:
    """An archive of some megabytes, and its summary."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node/large").write_bytes(os.urandom(5_000_000))
    content, manifest = made(tmp_path / "node")
    return content, summary_of(manifest, digest(content), len(content), False)


def test_a_backup_goes_to_a_node_and_comes_back(
    host: Host, tmp_path: Path, backup: tuple[bytes, dict[str, Any]]
) -> None:
    content, summary = backup
    assert run_stream(host, keep(tmp_path / "store", summary), give=[content]) is None
    taken = bytearray()
    assert run_stream(host, launch("give", tmp_path / "store", node=NODE, id=ID), take=taken.extend) == summary
    assert bytes(taken) == content


def test_a_refusal_is_raised_with_its_code(host: Host, tmp_path: Path, backup: tuple[bytes, dict[str, Any]]) -> None:
    with pytest.raises(RefusedError) as refused:
        run_stream(host, keep(tmp_path / "store", backup[1]), give=[backup[0][:-1]])
    assert refused.value.code == "BACKUP_FAILED"


def test_a_program_without_an_answer_fails_with_the_given_code(host: Host, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="KeyError") as refused:
        run_stream(host, launch("keep", tmp_path), failed="BACKUP_NOT_KEPT")
    assert refused.value.code == "BACKUP_NOT_KEPT"


def test_a_lost_connection_and_a_full_disk_differ(
    ssh_server: SshServer, host: Host, tmp_path: Path, backup: tuple[bytes, dict[str, Any]]
) -> None:
    def cut() -> Iterator[bytes]:
        yield backup[0][:1000]
        ssh_server.cut()
        for _ in range(100):
            yield backup[0]

    run_stream(host, keep(tmp_path / "store", backup[1]), give=[backup[0]])

    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_stream(host, launch("give", tmp_path / "store", node=NODE, id=ID), take=full)
    with pytest.raises(RefusedError, match="NODE_UNREACHABLE"):
        run_stream(host, keep(tmp_path / "other", backup[1]), give=cut())
