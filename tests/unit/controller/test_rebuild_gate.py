"""The gate of a rebuild: it opens when everything is proven, and each missing proof closes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.cluster.queries import (
    BACKUPS,
    CHECKED_STORE,
    ENGINE,
    LOCK,
    PODS,
    STORE,
    contents_of,
    data_of,
    models_of,
    serving_of,
)
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.gate import DEMANDS
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.snapshot import Served
from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.huggingface import Content
from gb10.facts.reading.node import LockHolder
from gb10.facts.reading.serving import Mode, NodeServing
from tests.unit.controller.fake_run import SNAPSHOT, FakeRun
from tests.unit.controller.hosts import saying
from tests.unit.controller.node_answers import PLACE, cache, engine, serving, store
from tests.unit.controller.two_nodes import INVENTORY, node

DATA: dict[str, Any] = {
    "serving_modes": {"cluster": {"models": ["org/large"]}, "solo": {"models": ["org/small"]}},
    "serving_image": "vllm:1",
    "images": ["own:1"],
    "node_ip": None,
    "rebuild_solo_seconds": 0,
}
NODES = Inventory("inventory.py", tuple(saying(host, **DATA) for host in INVENTORY.hosts))
HEAD, WORKER = NODES.hosts
MODELS, TAGS = ("org/large", "org/small"), ("vllm:1", "own:1")
FOLDERS = ("models--org--large", "models--org--small")
WEIGHTS = f"{FOLDERS[1]}/snapshots/c/model.safetensors"


def solo(mode: Mode) -> NodeServing:
    return serving(mode, age_seconds=60.0, health="up", models=("org/small",), completion=True)


def content(sha256: str | None = "5ba", *damaged: str) -> dict[str, Content]:
    """Return the content of the models on a node."""
    weights = {f"{folder}/snapshots/c/model.safetensors": "5ba" for folder in FOLDERS}
    return {
        folder: Content({path: sha256 if path == WEIGHTS else found}, damaged if path == WEIGHTS else ())
        for folder, (path, found) in zip(FOLDERS, weights.items(), strict=True)
    }


def held(run: str, owner: str = "ann") -> LockHolder:
    return LockHolder(run, owner, "desk", 1, "now", "prepare")


def members(*, cordoned: bool) -> tuple[ClusterNode, ...]:
    return (node("spark-1"), node("spark-2", cordoned=cordoned))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """Return a run in which everything is proven."""
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    found = FakeRun(NODES)
    answers = found.answers
    answers[models_of(WORKER)] = {"Spark-1": cache(*MODELS), "spark-2": cache(*MODELS)}
    answers[ENGINE] = {"Spark-1": engine(*TAGS), "spark-2": engine(*TAGS)}
    answers[STORE] = {"Spark-1": store(*TAGS), "spark-2": None}
    answers[contents_of(WORKER, FOLDERS)] = {name: content() for name in NODES.names}
    answers[CHECKED_STORE] = {"Spark-1": store(*TAGS)}
    answers[PODS] = {"Spark-1": {}}
    found.change("Spark-1", nodes=members(cordoned=True))
    answers[LOCK] = {name: held(found.journal.run) for name in NODES.names}
    for complete in (True, False):
        answers[serving_of(NODES, complete)] = {"Spark-1": solo("solo"), "spark-2": solo("off")}
    found.journal.write("began")
    found.rebuild(snapshot=replace(SNAPSHOT, served=Served("cluster", "Spark-1")))
    found.back_up()
    return found


def gate(run: FakeRun) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """Run the steps solo-watched and gate. Return the error of the gate, if any, and its demands by name."""
    worker = NodePlan(WORKER, run.tools())
    steps = {step.name: step for step in worker.steps()}
    steps["solo-watched"].verify()
    closed = None
    try:
        steps["gate"].run()
    except Gb10Error as error:
        closed = str(error)
    (*_, asked) = run.journal.of("gate")
    return closed, {demand["name"]: demand for demand in asked["demands"]}


def test_the_gate_opens_when_everything_is_proven(run: FakeRun) -> None:
    closed, found = gate(run)
    assert closed is None
    assert set(found) == set(DEMANDS)
    assert {name: demand["text"] for name, demand in found.items() if not demand["holds"]} == {}


def _model(run: FakeRun) -> None:
    run.answers[models_of(WORKER)]["Spark-1"] = cache("org/small")


def _image(run: FakeRun) -> None:
    run.answers[ENGINE]["Spark-1"] = engine("vllm:1")


def _saved_image(run: FakeRun) -> None:
    run.answers[STORE]["Spark-1"] = store("vllm:1")


def _backup(run: FakeRun) -> None:
    run.answers[BACKUPS]["Spark-1"] = ()


def _solo(run: FakeRun) -> None:
    run.answers[serving_of(NODES, complete=True)]["Spark-1"] = solo("off")


def _cordon(run: FakeRun) -> None:
    run.change("Spark-1", nodes=members(cordoned=False))


def _lock(run: FakeRun) -> None:
    run.answers[LOCK]["Spark-1"] = held("theirs", "eve")


def _room(run: FakeRun) -> None:
    run.answers[data_of(WORKER)]["spark-2"] = replace(PLACE, size_bytes=10)


def _digest(run: FakeRun) -> None:
    run.answers[contents_of(WORKER, FOLDERS)]["Spark-1"] = content("bad")


CASES: dict[str, tuple[Callable[[FakeRun], None], str]] = {
    "models": (_model, "not whole on Spark-1: org/large"),
    "images": (_image, "not in the engine of Spark-1: own:1"),
    "saved-images": (_saved_image, "not saved on Spark-1: own:1"),
    "backup": (_backup, "the proven copy on Spark-1 is gone"),
    "solo": (_solo, "nothing"),
    "drained": (_cordon, "spark-2 is not cordoned"),
    "lock": (_lock, "the lock of Spark-1 is held by eve@desk"),
    "room": (_room, "its disk has 10 "),
    "digests": (_digest, f"not the same: Spark-1:{WORKER.hub}/{WEIGHTS}"),
}


@pytest.mark.parametrize("name", DEMANDS)
def test_the_gate_stays_closed_with_the_reason_for_each_proof(run: FakeRun, name: str) -> None:
    take_away, cause = CASES[name]
    take_away(run)
    closed, found = gate(run)
    assert [demand["name"] for demand in found.values() if not demand["passes"]] == [name]
    assert cause in found[name]["text"]
    assert closed == f"GATE_CLOSED: spark-2 must not be wiped yet. {name}: {found[name]['text']}"
    assert found[name]["remedy"]


def test_a_pod_that_could_be_elsewhere_closes_the_gate(run: FakeRun) -> None:
    run.answers[PODS]["Spark-1"] = {"spark-2": ("default/web",)}
    closed, _ = gate(run)
    assert closed == "GATE_CLOSED: spark-2 must not be wiped yet. drained: on spark-2 are still default/web"


@pytest.mark.parametrize("name", [name for name in DEMANDS if name != "digests"])
def test_digests_are_read_only_once_all_else_is_proven(run: FakeRun, name: str) -> None:
    CASES[name][0](run)
    _, found = gate(run)
    assert "digests" not in found


def _unread(run: FakeRun) -> None:
    run.answers[contents_of(WORKER, FOLDERS)]["Spark-1"] = content(None)


def _unread_on_both(run: FakeRun) -> None:
    run.answers[contents_of(WORKER, FOLDERS)] = {name: content(None) for name in NODES.names}


def _gone(run: FakeRun) -> None:
    run.answers[contents_of(WORKER, FOLDERS)]["Spark-1"] = {}


def _damaged_here(run: FakeRun) -> None:
    run.answers[contents_of(WORKER, FOLDERS)]["spark-2"] = content("5ba", f"{FOLDERS[1]}/blobs/5ba")


def _damaged_image(run: FakeRun) -> None:
    whole = store(*TAGS)
    images = tuple(replace(image, damaged=("sha256:l",)) for image in whole.images)
    run.answers[CHECKED_STORE]["Spark-1"] = replace(whole, images=images)


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (_unread, f"Spark-1:{WORKER.hub}/{WEIGHTS}"),
        (_unread_on_both, f"Spark-1:{WORKER.hub}/{WEIGHTS}"),
        (_gone, "org/large on Spark-1"),
        (_damaged_here, f"spark-2:{WORKER.hub}/{FOLDERS[1]}/blobs/5ba"),
        (_damaged_image, "sha256:l of vllm:1"),
    ],
)
def test_content_that_is_not_proven_closes_the_gate(run: FakeRun, spoil: Callable[[FakeRun], None], where: str) -> None:
    spoil(run)
    closed, found = gate(run)
    assert where in str(closed)
    assert not found["digests"]["holds"]


def test_a_person_may_do_without_the_digests(run: FakeRun) -> None:
    _digest(run)
    run.journal.write("overridden", node="spark-2", overrides={"digests": "compared by hand"})
    closed, found = gate(run)
    assert closed is None
    assert found["digests"]["override"] == "compared by hand"
