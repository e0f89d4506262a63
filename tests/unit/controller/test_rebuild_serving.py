"""Serving while a node is away, as the gate judges it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.cluster.serving import state_fact
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.serving import ServingPart
from gb10.controller.rebuild.steps import Step
from tests.unit.controller.hosts import saying
from tests.unit.controller.two_nodes import INVENTORY
from tests.unit.controller.workshop import Workshop

DATA: dict[str, Any] = {
    "serving_modes": {"solo": {"models": ["org/small"]}},
    "serving_image": "vllm:1",
    "node_ip": None,
    "rebuild_solo_seconds": 1,
}
NODES = Inventory("inventory.py", tuple(saying(host, **DATA) for host in INVENTORY.hosts))


def said(mode: str, age_seconds: float) -> dict[str, Any]:
    engine = {"pid": 1, "container": "c", "mode": mode, "why": "so", "age_seconds": age_seconds}
    found = {"mode": mode, "engines": [engine] if mode == "solo" else [], "health": "up", "models": ["org/small"]}
    return {**found, "reasons": [], "containers": [], "completion": True, "trouble": None}


def watched(shop: Workshop) -> tuple[ServingPart, Step]:
    head, worker = shop.inventory.hosts
    part = ServingPart(worker, head, shop.tools())
    return part, list(part.degrade())[1]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    found = Workshop(NODES)
    serve(found, 60)
    return found


def serve(shop: Workshop, age_seconds: float) -> None:
    shop.says[state_fact(NODES, complete=True)] = {"Spark-1": said("solo", age_seconds), "spark-2": said("off", 0)}


def test_a_model_counts_as_served_alone_from_the_first_look_at_it(shop: Workshop) -> None:
    part, step = watched(shop)
    assert not part.demand().holds
    assert not step.verify().holds
    time.sleep(1.1)
    assert step.verify().holds
    assert part.demand().holds


def test_an_engine_that_ended_and_was_started_again_while_nobody_looked_begins_anew(shop: Workshop) -> None:
    part, step = watched(shop)
    step.verify()
    time.sleep(1.1)
    serve(shop, 0.2)
    assert not step.verify().holds
    assert not part.demand().holds
    assert "for 0 s of 1" in part.demand().text
