"""Runs of a rebuild: which one can be resumed, the order of nodes, and what is recorded of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.observation import OldIdentity
from gb10.controller.rebuild.runs import REBUILD, Progress, begin, in_order, runs, seconds_last_time, unfinished
from gb10.controller.rebuild.snapshot import Model, Revision, Served, Snapshot
from gb10.controller.rebuild.tools import Reporter, lock_holder
from tests.unit.controller.hosts import inventory_host

HEAD = inventory_host("spark-1", "head", ssh_hostname="198.18.0.11")
WORKER = inventory_host("spark-2", "workers", ssh_hostname="198.18.0.12")
INVENTORY = Inventory("inventory.py", (HEAD, WORKER))
OTHERS = Inventory("other.py", (inventory_host("spark-1", "head", ssh_hostname="198.18.9.11"),))
MEMORY = Snapshot(
    identity=OldIdentity("a" * 32, "b", {"enP7s7": "02:b1:00:00:00:01"}),
    k3s="agent",
    cordoned=True,
    operators=("gpu-operator",),
    models={"org/name": Model("org/name", "model", 7, ())},
    lost_models=("org/torn",),
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def test_a_run_can_be_resumed_until_it_has_ended() -> None:
    assert unfinished(INVENTORY) is None
    journal = begin(INVENTORY, ["spark-2", "spark-1"])
    journal.write("node-done", node="spark-2")
    found = unfinished(INVENTORY)
    assert found is not None
    assert (found.nodes, found.left) == (("spark-2", "spark-1"), ("spark-1",))
    journal.write("finished", nodes=[])
    assert unfinished(INVENTORY) is None
    assert [run.ended for run in runs(INVENTORY, REBUILD)] == ["finished"]


def test_runs_of_other_nodes_and_kinds_are_kept_apart() -> None:
    begin(INVENTORY, ["spark-2"], kind="wipe-all")
    assert unfinished(INVENTORY) is None
    assert unfinished(INVENTORY, "wipe-all") is not None
    assert unfinished(OTHERS, "wipe-all") is None


def test_the_head_comes_last() -> None:
    assert in_order([HEAD, WORKER]) == [WORKER, HEAD]


def test_the_last_recorded_snapshot_is_read_back() -> None:
    journal = begin(INVENTORY, ["spark-2"])
    assert NodeHistory(journal, "spark-2").snapshot is None
    first = Snapshot(identity=OldIdentity(None, None, {}), k3s=None, cordoned=False)
    journal.write("remembered", node="spark-2", memory=first.to_json())
    journal.write("remembered", node="spark-2", memory=MEMORY.to_json())
    (again,) = (run.journal for run in runs(INVENTORY, REBUILD))
    assert NodeHistory(again, "spark-2").snapshot == MEMORY
    assert NodeHistory(again, "spark-1").snapshot is None


def test_a_lock_names_its_run_and_owner() -> None:
    journal = begin(INVENTORY, ["spark-2"])
    found = lock_holder(journal, "prepare spark-2")
    assert (found.run, found.step, found.since) == (journal.run, "prepare spark-2", journal.records[0]["at"])


def test_passing_events_are_shown_and_not_recorded(tmp_path: Path) -> None:
    journal, shown = begin(INVENTORY, ["spark-2"]), []
    report = Reporter(journal, lambda record: shown.append(record["event"]), tmp_path / "events")
    report("seen", node="spark-2", text="gone")
    report("step-done", node="spark-2", step="drain", seconds=2.5)
    assert shown == ["seen", "step-done"]
    assert [record["event"] for record in journal.records] == ["started", "step-done"]
    assert len((tmp_path / "events").read_text().splitlines()) == 2
    assert seconds_last_time([Progress(journal)], "spark-2") == {"drain": 2.5}


@pytest.mark.parametrize(
    ("there", "is_copied"),
    [
        (None, False),
        ((), False),
        ((Revision("c", 2, 9, True),), True),
        ((Revision("d", 2, 9, True), Revision("c", 2, 9, True)), True),
        ((Revision("c", 1, 9, True),), False),
        ((Revision("c", 2, 9, False),), False),
        ((Revision("d", 2, 9, True),), False),
    ],
)
def test_a_model_is_copied_when_every_revision_is_whole(there: tuple[Revision, ...] | None, is_copied: bool) -> None:
    ours = Model("org/name", "model", 9, (Revision("c", 2, 9, True),))
    assert ours.is_copied(None if there is None else replace(ours, revisions=there)) is is_copied


def test_a_snapshot_of_an_earlier_version_is_read() -> None:
    revision = {"commit": "c", "files": 2, "size": 9, "sound": True}
    document = {
        "identity": {"machine_id": "a", "boot_id": "b", "macs": {"eth0": "02:00"}},
        "k3s": "agent",
        "cordoned": False,
        "operators": ["gpu-operator"],
        "own_device": True,
        "models": {"org/name": {"name": "org/name", "kind": "model", "size": 9, "revisions": [revision]}},
        "lost_models": [],
        "images": {"own:1": {"architecture": "arm64", "layers": ["sha256:1"], "settings": "2"}},
        "lost_images": ["old:1"],
        "serving": "cluster",
        "serving_node": "spark-1",
    }
    memory = Snapshot.from_json(document)
    assert memory.models["org/name"].revisions == (Revision("c", 2, 9, True),)
    assert memory.served == Served("cluster", "spark-1")
    assert json.loads(json.dumps(memory.to_json())) == document
