"""The lock of another controller's rebuild: every command that changes nodes heeds it, and names its holder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gb10.controller.errors import ExitStatus
from gb10.facts.reading.node import LOCK_FILE, LockHolder
from tests.lab.attended import HEAD, WORKER
from tests.lab.conftest import LabUnderTest
from tests.lab.product import Product

SINCE = "2026-01-01T00:00:00.000Z"
THEIRS = LockHolder("20260101T000000Z-rebuild-1", "eve", "elsewhere", 1, SINCE, "prepare spark-2")
CHANGES = (
    ("provision", WORKER),
    ("bootstrap",),
    ("teardown", "--yes"),
    ("serving", "off"),
    ("sync", "models", HEAD, WORKER),
    ("sync", "images", HEAD, WORKER, "own:1"),
    ("backup", WORKER),
)
# What a refused run may have changed: folders of ours and of the system, without the logs.
PLACES = "/etc /data /home /usr/local /var/lib/gb10 /var/lib/rancher"


@pytest.fixture
def locked(lab: LabUnderTest, host_of: Callable[[str], Any]) -> Iterator[None]:
    """Lock both nodes as another controller does."""
    lab.wipe_all()
    for name in (HEAD, WORKER):
        host_of(name).check_output(
            f"sudo mkdir -p /var/lib/gb10 && echo {json.dumps(json.dumps(THEIRS.to_json()))} | sudo tee {LOCK_FILE} && "
            "sleep 1 && sudo touch /run/before"
        )
    yield
    for name in (HEAD, WORKER):
        host_of(name).check_output(f"sudo rm {LOCK_FILE} /run/before")


@pytest.mark.usefixtures("locked")
def test_no_command_changes_nodes_that_another_controller_holds(
    product: Product, host_of: Callable[[str], Any]
) -> None:
    for command in CHANGES:
        done = product.gb10(*command)
        assert done.status == ExitStatus.LOCKED, (command, done.output)
        text = " ".join(done.output.split())
        assert "NODE_LOCKED" in text, command
        assert f"eve@elsewhere (pid 1, prepare spark-2) since {SINCE}" in text, command
        assert "gb10 rebuild unlock" in text, command

    theirs = product.pyinfra("-y", "gb10.deploys.node")
    assert "gb10: NODE_LOCKED" in theirs.output, theirs.output

    for name in (HEAD, WORKER):
        assert host_of(name).check_output(f"sudo find {PLACES} -newer /run/before 2>/dev/null || true") == ""

    planned = product.gb10("provision", WORKER, "--dry-run")
    assert planned.status == ExitStatus.LOCKED  # of what would be refused
    assert "would be refused" in planned.output
    assert "operations would change something" in planned.output
    assert product.pyinfra("--dry", "gb10.deploys.node").status == 0
    assert "NODE_LOCKED" not in product.gb10("status").output
