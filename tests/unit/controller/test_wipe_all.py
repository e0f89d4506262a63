"""The wipe of all nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.wipe_all import WipeAll, WipedNode
from tests.unit.controller.fake_run import SNAPSHOT, FakeRun


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def wiped(run: FakeRun, name: str = "spark-2") -> WipedNode:
    """Return a node whose run began long ago."""
    run.journal.write("remembered", node=name, memory=SNAPSHOT.to_json())
    run.journal.records[-1]["at"] = "2026-01-01T00:00:00.000Z"
    return WipedNode(run.inventory.host(name), run.tools())


def test_a_node_is_backed_up_while_the_others_are_away() -> None:
    not_kept = Gb10Error("BACKUP_NOT_KEPT", host="spark-2")
    run = FakeRun(kind="wipe-all", failures={"backup": not_kept, "prove_backup": Gb10Error("NODE_UNREACHABLE")})
    node = wiped(run)
    with pytest.raises(Gb10Error) as stopped:  # the controller has no backup either
        node.backup.run()
    assert stopped.value is not_kept
    run.back_up()
    node.backup.run()
    assert [deploy for deploy, _, _ in run.deployed] == ["backup", "prove_backup"] * 2
    run.failures = {"backup": Gb10Error("INTERRUPTED")}
    with pytest.raises(Gb10Error, match="interrupted"):
        node.backup.run()


def test_a_copy_on_a_node_that_is_away_does_not_count() -> None:
    run = FakeRun(kind="wipe-all")
    node = wiped(run)
    run.back_up()
    node.target.view.absent.add("Spark-1")
    node.backup.record()
    (record,) = run.journal.of("backed-up")
    assert record["places"] == ["controller"]


def test_a_stopped_wipe_names_the_places_of_the_backups() -> None:
    run = FakeRun(kind="wipe-all")
    wipe = WipeAll(run.tools())
    assert wipe.whereabouts() == []  # no person was asked to wipe a node
    for name in ("Spark-1", "spark-2"):
        run.journal.write("wipe-asked", node=name, instructions=[])
        run.journal.write("backed-up", node=name, backup=f"{name}-1", places=["controller"])
    run.journal.write("returned", node="spark-2", host_key="SHA256:1", machine_id="1")
    assert wipe.whereabouts() == [
        "Spark-1 may be wiped by now",
        "its backup Spark-1-1 is on controller",
        "spark-2 was wiped and is back, not yet as it was",
        "its backup spark-2-1 is on controller",
        "nothing further is destroyed: gb10 wipe-all goes on",
    ]
