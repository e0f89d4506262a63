"""The watch of a node that serves alone, and what the gate demands of it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.cluster.queries import serving_of
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.snapshot import Served
from gb10.controller.rebuild.steps.solo_watched import SoloWatched
from gb10.controller.rebuild.target import Target
from gb10.facts.reading.serving import Mode, NodeServing
from tests.unit.controller.fake_run import SNAPSHOT, FakeRun
from tests.unit.controller.hosts import saying
from tests.unit.controller.node_answers import serving
from tests.unit.controller.two_nodes import INVENTORY

DATA: dict[str, Any] = {
    "serving_modes": {"solo": {"models": ["org/small"]}},
    "serving_image": "vllm:1",
    "node_ip": None,
    "rebuild_solo_seconds": 1,
}
NODES = Inventory("inventory.py", tuple(saying(host, **DATA) for host in INVENTORY.hosts))


def answer(mode: Mode, age_seconds: float) -> NodeServing:
    return serving(mode, age_seconds=age_seconds, health="up", models=("org/small",), completion=True)


def watched(run: FakeRun) -> SoloWatched:
    run.journal.write("remembered", node="spark-2", memory=replace(SNAPSHOT, served=Served("cluster", None)).to_json())
    return SoloWatched(Target(run.inventory.hosts[1], run.tools()))


def demanded(step: SoloWatched) -> Demand:
    demand = step.demand()
    assert demand is not None
    return demand


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    found = FakeRun(NODES)
    serve(found, 60)
    return found


def serve(run: FakeRun, age_seconds: float) -> None:
    run.answers[serving_of(NODES, complete=True)] = {
        "Spark-1": answer("solo", age_seconds),
        "spark-2": answer("off", 0),
    }


def test_serving_alone_counts_from_the_first_look(run: FakeRun) -> None:
    step = watched(run)
    assert not demanded(step).holds
    assert not step.verify().holds
    time.sleep(1.1)
    assert step.verify().holds
    assert demanded(step).holds


def test_the_watch_starts_again_for_a_restarted_engine(run: FakeRun) -> None:
    step = watched(run)
    step.verify()
    time.sleep(1.1)
    serve(run, 0.2)
    assert not step.verify().holds
    assert not demanded(step).holds
    assert "for 0 s of 1" in demanded(step).text
