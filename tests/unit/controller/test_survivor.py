"""The node that stays, watched while a person is at the other one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gb10.controller.cluster.asks import LOCK
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.arrival import Kind, Seen
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.survivor import Survivor, answers
from tests.unit.controller.workshop import Workshop

GONE = Gb10Error("NODE_UNREACHABLE", host="Spark-1", reason="no route to host")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    return Workshop()


def watching(shop: Workshop, look: Callable[[], Evidence], **more: float) -> Survivor:
    tools = shop.tools()
    return Survivor(Roles(shop.inventory, shop.inventory.hosts[1]), look, tools.report, tools.person.notify, **more)


def look(survivor: Survivor, kind: Kind) -> None:
    survivor(Seen(kind, "as it is"))


def test_a_keeper_that_dies_before_the_wipe_forbids_it(shop: Workshop) -> None:
    sight, keeper = shop.tools().sight, shop.inventory.head
    survivor = watching(shop, lambda: answers(keeper, sight), look_seconds=0)
    look(survivor, "still-there")
    assert shop.told == []

    said, shop.says[LOCK], shop.errors = shop.says[LOCK], {}, (GONE,)
    look(survivor, "still-there")
    look(survivor, "still-there")  # once is enough
    assert [text.partition(":")[0] for text in shop.told] == ["do NOT wipe spark-2 now"]
    assert "no route to host" in shop.told[0]
    assert not shop.journal.records[-1]["well"]

    shop.says[LOCK], shop.errors = said, ()
    look(survivor, "unwiped")
    assert shop.told[1:] == ["Spark-1 is well again: spark-2 may be wiped"]
    assert [record["well"] for record in shop.journal.of("keeper")] == [False, True]


def test_it_is_told_at_once_when_nobody_serves_the_model(shop: Workshop) -> None:
    served = [Evidence(True, "served"), Evidence(False, "nothing is served"), Evidence(True, "served")]
    survivor = watching(shop, lambda: served.pop(0), look_seconds=0)
    for _ in range(3):
        look(survivor, "gone")
    assert shop.told == [
        "Spark-1, which stands in for spark-2, is not well (nothing is served): look after it, spark-2 can wait",
        "Spark-1 is well again",
    ]


def test_nobody_is_asked_more_often_than_now_and_then(shop: Workshop) -> None:
    asked: list[str] = []

    def alone() -> Evidence:
        asked.append("once")
        return Evidence(True, "served")

    survivor = watching(shop, alone)
    for _ in range(5):
        look(survivor, "still-there")
    assert asked == ["once"]
