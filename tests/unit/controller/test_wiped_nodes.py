"""The wipe of all nodes, as it decides by what is left of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.wipe_all import WipeAll, WipedNode
from tests.unit.controller.workshop import MEMORY, Workshop


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def wiped(shop: Workshop, name: str = "spark-2") -> WipedNode:
    """A node whose run began long ago."""
    shop.journal.write("remembered", node=name, memory=MEMORY.to_json())
    shop.journal.records[-1]["at"] = "2026-01-01T00:00:00.000Z"
    return WipedNode(shop.inventory.host(name), shop.tools())


def test_a_node_is_backed_up_although_the_others_are_away_already() -> None:
    not_kept = Gb10Error("BACKUP_NOT_KEPT", host="spark-2")
    shop = Workshop(kind="wipe-all", fails={"backup": not_kept, "prove_backup": Gb10Error("NODE_UNREACHABLE")})
    node = wiped(shop)
    with pytest.raises(Gb10Error) as stopped:  # the controller has none either
        node.keeping.make()
    assert stopped.value is not_kept
    shop.back_up()
    node.keeping.make()
    assert [deploy for deploy, _, _ in shop.worked] == ["backup", "prove_backup"] * 2
    shop.fails = {"backup": Gb10Error("INTERRUPTED")}
    with pytest.raises(Gb10Error, match="interrupted"):
        node.keeping.make()


def test_a_copy_on_a_node_that_is_away_does_not_count() -> None:
    shop = Workshop(kind="wipe-all")
    node = wiped(shop)
    shop.back_up()
    node.tools.sight.absent.add("Spark-1")
    node.parts.backups.remember()
    (record,) = shop.journal.of("backed-up")
    assert record["places"] == ["controller"]


def test_a_stopped_wipe_says_where_nodes_and_backups_are() -> None:
    shop = Workshop(kind="wipe-all")
    wipe = WipeAll(shop.tools())
    assert wipe.whereabouts() == []  # nobody was asked to wipe anything
    for name in ("Spark-1", "spark-2"):
        shop.journal.write("wipe-asked", node=name, instructions=[])
        shop.journal.write("backed-up", node=name, backup=f"{name}-1", places=["controller"])
    shop.journal.write("returned", node="spark-2", host_key="SHA256:1", machine_id="1")
    assert wipe.whereabouts() == [
        "Spark-1 may be wiped by now",
        "its backup Spark-1-1 is on controller",
        "spark-2 was wiped and is back, not yet as it was",
        "its backup spark-2-1 is on controller",
        "nothing further is destroyed: gb10 wipe-all goes on",
    ]
