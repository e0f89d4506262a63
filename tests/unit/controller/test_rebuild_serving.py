"""Serving while a node is away, as the gate judges it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.cluster.asks import serving_of
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.memory import Served
from gb10.controller.rebuild.parts import Parts
from gb10.controller.rebuild.steps.solo_watched import SoloWatched
from gb10.facts.reading.serving import Mode, NodeServing
from tests.unit.controller.hosts import saying
from tests.unit.controller.said import serving
from tests.unit.controller.two_nodes import INVENTORY
from tests.unit.controller.workshop import MEMORY, Workshop

DATA: dict[str, Any] = {
    "serving_modes": {"solo": {"models": ["org/small"]}},
    "serving_image": "vllm:1",
    "node_ip": None,
    "rebuild_solo_seconds": 1,
}
NODES = Inventory("inventory.py", tuple(saying(host, **DATA) for host in INVENTORY.hosts))


def said(mode: Mode, age_seconds: float) -> NodeServing:
    return serving(mode, age_seconds=age_seconds, health="up", models=("org/small",), completion=True)


def watched(shop: Workshop) -> SoloWatched:
    tools = shop.tools()
    shop.journal.write("remembered", node="spark-2", memory=replace(MEMORY, served=Served("cluster", None)).to_json())
    parts = Parts(shop.inventory.hosts[1], tools, served=True)
    return SoloWatched(parts.roles, parts.notebook, parts.serving, tools.person)


def demanded(step: SoloWatched) -> Demand:
    demand = step.demand()
    assert demand is not None
    return demand


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    found = Workshop(NODES)
    serve(found, 60)
    return found


def serve(shop: Workshop, age_seconds: float) -> None:
    shop.says[serving_of(NODES, complete=True)] = {"Spark-1": said("solo", age_seconds), "spark-2": said("off", 0)}


def test_a_model_counts_as_served_alone_from_the_first_look_at_it(shop: Workshop) -> None:
    step = watched(shop)
    assert not demanded(step).holds
    assert not step.verify().holds
    time.sleep(1.1)
    assert step.verify().holds
    assert demanded(step).holds


def test_the_watch_begins_anew_for_an_engine_that_was_restarted(shop: Workshop) -> None:
    step = watched(shop)
    step.verify()
    time.sleep(1.1)
    serve(shop, 0.2)
    assert not step.verify().holds
    assert not demanded(step).holds
    assert "for 0 s of 1" in demanded(step).text
