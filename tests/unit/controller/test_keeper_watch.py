"""The watch of the node that stays while a person wipes the other one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gb10.controller.cluster.queries import LOCK
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.observation import Kind, Verdict
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target
from gb10.controller.rebuild.wipe_watch import KeeperWatch, answers
from tests.unit.controller.fake_run import FakeRun

GONE = Gb10Error("NODE_UNREACHABLE", host="Spark-1", reason="no route to host")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    return FakeRun()


def watching(run: FakeRun, look: Callable[[], Evidence], **more: float) -> KeeperWatch:
    return KeeperWatch(Target(run.inventory.hosts[1], run.tools()), look, **more)


def look(watch: KeeperWatch, kind: Kind) -> None:
    watch(Verdict(kind, "as it is"))


def test_a_keeper_that_fails_before_the_wipe_forbids_it(run: FakeRun) -> None:
    view, keeper = run.tools().view, run.inventory.head
    watch = watching(run, lambda: answers(keeper, view), seconds=0)
    look(watch, "still-there")
    assert run.notified == []

    old, run.answers[LOCK], run.errors = run.answers[LOCK], {}, (GONE,)
    look(watch, "still-there")
    look(watch, "still-there")  # reported once
    assert [text.partition(":")[0] for text in run.notified] == ["do NOT wipe spark-2 now"]
    assert "no route to host" in run.notified[0]
    assert not run.journal.records[-1]["well"]

    run.answers[LOCK], run.errors = old, ()
    look(watch, "unwiped")
    assert run.notified[1:] == ["Spark-1 is well again: spark-2 may be wiped"]
    assert [record["well"] for record in run.journal.of("keeper")] == [False, True]


def test_a_keeper_that_stops_serving_is_reported_at_once(run: FakeRun) -> None:
    served = [Evidence(True, "served"), Evidence(False, "nothing is served"), Evidence(True, "served")]
    watch = watching(run, lambda: served.pop(0), seconds=0)
    for _ in range(3):
        look(watch, "gone")
    assert run.notified == [
        "Spark-1, which stands in for spark-2, is not well (nothing is served): look after it, spark-2 can wait",
        "Spark-1 is well again",
    ]


def test_the_keeper_is_asked_only_from_time_to_time(run: FakeRun) -> None:
    asked: list[str] = []

    def alone() -> Evidence:
        asked.append("once")
        return Evidence(True, "served")

    watch = watching(run, alone)
    for _ in range(5):
        look(watch, "still-there")
    assert asked == ["once"]
