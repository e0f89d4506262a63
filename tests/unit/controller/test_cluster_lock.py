"""The lock, between real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.lock import cluster_lock

HOLD = """
import sys
from pathlib import Path
from gb10.controller.lock import cluster_lock
with cluster_lock(sys.argv[2:], "gb10 bootstrap", Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, *endpoints: str) -> subprocess.Popen[str]:
    """A process that holds the locks until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(folder), *endpoints]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_the_first_is_and_since_when(tmp_path: Path) -> None:
    first = hold(tmp_path, "10.0.0.1:22", "10.0.0.2:22")
    try:
        with (
            pytest.raises(Gb10Error) as raised,
            cluster_lock(["10.0.0.1:22", "10.0.0.2:22"], "gb10 teardown", tmp_path),
        ):
            pass
    finally:
        first.communicate()
    assert raised.value.code == "LOCKED"
    assert f"pid {first.pid}: gb10 bootstrap" in raised.value.summary
    assert raised.value.details["pid"] == first.pid


def test_two_inventories_that_share_a_node_share_its_lock(tmp_path: Path) -> None:
    first = hold(tmp_path, "10.0.0.1:22", "10.0.0.2:22")
    try:
        with pytest.raises(Gb10Error), cluster_lock(["10.0.0.2:22", "10.0.0.3:22"], "x", tmp_path):
            pass
        with cluster_lock(["10.0.0.3:22", "10.0.0.4:22"], "x", tmp_path):
            pass
    finally:
        first.communicate()


def test_who_is_refused_holds_nothing_back(tmp_path: Path) -> None:
    first = hold(tmp_path, "10.0.0.2:22")
    try:
        with suppress(Gb10Error), cluster_lock(["10.0.0.1:22", "10.0.0.2:22"], "x", tmp_path):
            pytest.fail("the lock was given twice")
        second = hold(tmp_path, "10.0.0.1:22")
        second.communicate()
    finally:
        first.communicate()


def test_a_lock_vanishes_with_its_process_however_that_ends(tmp_path: Path) -> None:
    first = hold(tmp_path, "10.0.0.1:22")
    first.kill()
    first.wait()
    with cluster_lock(["10.0.0.1:22"], "gb10 bootstrap", tmp_path):
        pass


def test_a_lock_can_be_taken_again_when_it_was_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with cluster_lock(["10.0.0.1:22"], "x", tmp_path):
            pass


def test_the_owner_file_of_one_who_is_gone_is_not_believed_for_long(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    first = hold(tmp_path, "10.0.0.1:22")
    (owner,) = tmp_path.glob("*.json")
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "pid": dead.pid}))
    try:
        with pytest.raises(Gb10Error) as raised, cluster_lock(["10.0.0.1:22"], "x", tmp_path):
            pass
        assert raised.value.code == "LOCKED"
    finally:
        first.communicate()
