"""A rebuild of a lost controller, taken over from the journal that a node keeps; what is no such journal is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gb10.controller.cluster.queries import JOURNAL, LOCK
from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal
from gb10.controller.rebuild.adoption import MOST_CHARACTERS, Lost, checked, find_lost
from gb10.controller.rebuild.runs import WIPE_ALL, adopt, begin, new_name, unfinished
from gb10.controller.rebuild.tools import lock_holder
from gb10.controller.run.runner import Runner
from tests.unit.controller.fake_run import FakeRun, FakeRunner
from tests.unit.controller.two_nodes import HOSTS, INVENTORY

Records = list[dict[str, Any]]
HEAD, WORKER = HOSTS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """Return a run whose controller is lost once it waits for the wipe."""
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "lost"))
    found = FakeRun()
    found.rebuild()
    found.journal.write("overridden", node=WORKER, overrides={"solo": "at night"})
    found.journal.write("backed-up", node=WORKER, backup="spark-2-1", places=["controller", HEAD])
    found.journal.write("step-done", node=WORKER, step="gate", kind="own", seconds=1.0)
    found.journal.write("wipe-asked", node=WORKER, instructions=[], risks=[])
    holder = lock_holder(found.journal, "prepare spark-2")
    found.answers |= {JOURNAL: {HEAD: found.journal.path.read_text()}, LOCK: {HEAD: holder}}
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "new"))
    return found


def look(run: FakeRun, *hosts: str) -> Lost:
    return find_lost(INVENTORY, cast("Runner", FakeRunner(run, INVENTORY.select(hosts))))


def refused(text: str) -> str:
    with pytest.raises(Gb10Error) as raised:
        checked(HEAD, text, INVENTORY)
    assert raised.value.code == "JOURNAL_BROKEN"
    return raised.value.summary


def changed(run: FakeRun, change: Callable[[Records], Any]) -> str:
    """Return the journal of a run with a change of its records."""
    records = json.loads(json.dumps(run.journal.records))
    change(records)
    return "".join(f"{json.dumps(record)}\n" for record in records)


def test_another_controller_goes_on_where_the_lost_one_was(run: FakeRun) -> None:
    lost = look(run)
    assert (lost.node, lost.to_fetch, lost.answering) == (HEAD, (WORKER,), (HEAD,))
    assert list(lost.decisions) == [f"{WORKER} goes without: solo"]
    journal = adopt(lost.progress, new_name("rebuild"), lost.node)
    assert Journal.load(journal.path).records[:-1] == run.journal.records
    found = unfinished(INVENTORY)
    assert found
    assert found.journal.path == journal.path
    assert lock_holder(journal, "").run == journal.run


def test_the_newest_journal_counts_unless_a_node_is_named(run: FakeRun) -> None:
    old = "".join(f"{line}\n" for line in run.journal.path.read_text().splitlines()[:-1])
    run.answers[JOURNAL] = {HEAD: old, WORKER: run.journal.path.read_text()}
    run.answers[LOCK] = dict.fromkeys(HOSTS)
    assert look(run).node == WORKER
    assert look(run, HEAD).node == HEAD


def test_a_full_wipe_is_taken_over_in_the_same_way(run: FakeRun) -> None:
    text = changed(run, lambda records: records[0].update(kind=WIPE_ALL))
    run.answers[JOURNAL] = {HEAD: text}
    assert adopt(look(run).progress, new_name(WIPE_ALL), HEAD)
    found = unfinished(INVENTORY, WIPE_ALL)
    assert found
    assert found.nodes == HOSTS[::-1]


def test_a_run_of_this_controller_comes_first(run: FakeRun) -> None:
    begin(INVENTORY, [WORKER])
    with pytest.raises(Gb10Error, match="REBUILD_UNFINISHED"):
        look(run)


def test_without_a_journal_there_is_nothing_to_take_over(run: FakeRun) -> None:
    run.answers[JOURNAL] = dict.fromkeys(HOSTS)
    with pytest.raises(Gb10Error, match="REBUILD_NONE"):
        look(run)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda records: records[0].update(endpoints=["198.51.100.1:22"]), "198.51.100.1:22"),
        (lambda records: records[0].update(nodes=["../../etc"]), "../../etc"),
        (lambda records: records[0].update(kind="teardown"), "what was begun"),
        (lambda records: records.pop(0), "what was begun"),
        (lambda records: records[0].pop("owner"), ""),
        (lambda records: records.append({**records[-1], "event": "sighted", "node": 1}), "unknown node"),
        (lambda records: records[-1].update(node="spark-9"), "unknown node"),
        (lambda records: records[-1].update(at="2999-01-01T00:00:00.000Z"), "in the future"),
        (lambda records: records[-1].update(at=7), ""),
        (lambda records: records[-1].update(risks=["\x1b]52;c;AA==\x07"]), "control characters"),
        (lambda records: records[-1].update({"\x1b[2J": 1}), "control characters"),
        (lambda records: records[1].update(memory={"identity": 1}), ""),
        (lambda records: records[2].update(overrides=3), ""),
        (lambda records: records[3].update(places=3), ""),
        (lambda records: records.__setitem__(slice(None), []), "what was begun"),
    ],
)
def test_a_journal_that_a_hostile_node_made_up_is_refused(
    run: FakeRun, change: Callable[[Records], Any], reason: str
) -> None:
    assert reason in refused(changed(run, change))


@pytest.mark.parametrize("text", ["{}\n", "x\n", "[" * 100_000 + "\n", "x" * (MOST_CHARACTERS + 1)])
def test_what_is_no_journal_is_refused(run: FakeRun, text: str) -> None:
    assert HEAD in refused(text)


def test_only_nodes_that_stay_keep_the_journal(run: FakeRun) -> None:
    run.tools().keep_journal()
    run.journal.write("returned", node=WORKER, host_key="SHA256:new", machine_id="1")
    run.tools().keep_journal()
    away = run.tools()
    away.view.absent.add(HEAD)
    away.keep_journal()
    assert [(deploy, hosts) for deploy, hosts, _ in run.deployed] == [
        ("keep_journal", (HEAD,)),
        ("keep_journal", HOSTS),
        ("keep_journal", (WORKER,)),
    ]


def test_a_node_that_cannot_keep_the_journal_stops_nothing(run: FakeRun) -> None:
    run.failures["keep_journal"] = Gb10Error("DISK_FULL", "the disk of Spark-1 is full")
    run.tools().keep_journal()
    assert "the disk of Spark-1 is full" in run.events[-1]["text"]


def test_ctrl_c_while_the_journal_is_kept_stops_the_run(run: FakeRun) -> None:
    run.failures["keep_journal"] = Gb10Error("INTERRUPTED")
    with pytest.raises(Gb10Error, match="INTERRUPTED"):
        run.tools().keep_journal()
