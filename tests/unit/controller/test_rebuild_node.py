"""The rebuild of one node, as it decides by what the nodes say and by what the journal remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
from workshop import MEMORY, Workshop

from gb10.controller.rebuild import write_down
from gb10.controller.rebuild_memory import recall


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def test_a_proof_that_one_node_does_without_is_asked_of_the_next_one_again() -> None:
    shop = Workshop()
    write_down(shop.tools(), {"backup": "it is empty"}, rebootstrap=False)
    worker, head = shop.rebuild("spark-2"), shop.rebuild("Spark-1")
    assert worker.overrides == {"backup": "it is empty"}
    assert head.overrides == {}
    assert "backup" in [step.name for step in head.steps()]
    assert "backup" not in [step.name for step in worker.steps()]

    shop.journal.write("node-done", node="spark-2")
    write_down(shop.tools(), {"solo": "nobody uses it"}, rebootstrap=False)
    assert head.overrides == {"solo": "nobody uses it"}


def test_a_new_cluster_that_was_asked_for_once_is_still_wanted_when_the_run_is_taken_up_again() -> None:
    shop = Workshop()
    write_down(shop.tools(), {}, rebootstrap=True)
    write_down(shop.tools(), {}, rebootstrap=False)
    assert shop.rebuild("Spark-1").rebootstrap
    assert recall(shop.journal, "Spark-1") == MEMORY
