"""Steps: what holds is not done again, what does not come true stops the rest, and hooks may forbid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.runs import Reporter
from gb10.controller.rebuild.steps import Evidence, Step, Steps, undo


class World:
    """Things that are done or not, and what was heard."""

    def __init__(self, folder: Path, hooks: Hooks | None = None) -> None:
        self.done: set[str] = set()
        self.ran: list[str] = []
        self.heard: list[str] = []
        self.journal = Journal.create("run", folder)
        reporter = Reporter(self.journal, self._hear)
        self.steps = Steps("spark-2", self.journal, reporter, hooks or Hooks(), lambda: None)

    def _hear(self, record: Mapping[str, Any], /) -> None:
        self.heard.append(f"{record['event']} {record.get('step', '')}".strip())

    def step(self, name: str, *, works: bool = True, **more: Any) -> Step:
        def run() -> None:
            self.ran.append(name)
            if works:
                self.done.add(name)

        def verify() -> Evidence:
            return Evidence(name in self.done, "done" if name in self.done else "not done")

        return Step(name, name.title(), lambda: name, verify, run, **more)


def test_what_holds_already_is_not_done_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.done.add("copy")
    world.steps.carry_out([world.step("copy"), world.step("drain")])
    assert world.ran == ["drain"]
    assert world.heard == ["step-held copy", "step-began drain", "step-done drain"]


def test_facts_decide_and_not_the_journal(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.steps.carry_out([world.step("copy")])
    world.done.clear()
    world.steps.carry_out([world.step("copy")])
    assert world.ran == ["copy", "copy"]


def test_a_step_that_does_not_come_true_stops_the_rest(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(Gb10Error, match="not done"):
        world.steps.carry_out([world.step("copy", works=False), world.step("wipe")])
    assert world.ran == ["copy"]
    assert world.heard[-1] == "step-failed copy"


def test_a_first_run_does_not_look_where_looking_is_dear_and_a_second_one_does(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.done.add("provision")
    world.steps.carry_out([world.step("provision", looks_first=False)])
    world.steps.carry_out([world.step("provision", looks_first=False)])
    assert world.ran == ["provision"]


def test_a_hook_can_forbid_a_step(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n[ "$2" != wipe ] || { echo not today; exit 1; }\n'
    )
    hook.chmod(0o755)
    world = World(tmp_path, Hooks([str(hook)]))
    with pytest.raises(Gb10Error, match="not today"):
        world.steps.carry_out([world.step("gate"), world.step("wipe")])
    assert world.ran == ["gate"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["before gate spark-2", "after gate spark-2", "before wipe spark-2"]


def test_what_can_be_taken_back_is_the_last_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    steps = [world.step("solo", undo=lambda: "serving"), world.step("copy"), world.step("drain", undo=lambda: None)]
    assert list(undo([*steps, world.step("more", undo=lambda: "more")])) == ["more", "serving"]


class Booting:
    """A step that cannot be looked at some times, for the given reason."""

    def __init__(self, code: str, times: int) -> None:
        self.code, self.times = code, times

    def __call__(self) -> Evidence:
        self.times -= 1
        if self.times >= 0:
            raise Gb10Error(self.code, host="spark-2")
        return Evidence(True, "at rest")


def test_a_node_that_boots_meanwhile_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gb10.controller.rebuild.steps.POLL_SECONDS", 0.01)
    world = World(tmp_path)
    settle = replace(world.step("settle", patience_seconds=60), verify=Booting("NODE_UNREACHABLE", 3))
    world.steps.carry_out([settle])
    assert world.heard == ["step-began settle", "waiting settle", "step-done settle"]


def test_a_node_that_stays_away_ends_the_wait_with_that_as_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle = replace(world.step("settle", patience_seconds=0.01), verify=Booting("NODE_UNREACHABLE", 9))
    with pytest.raises(Gb10Error, match="spark-2 does not answer") as stopped:
        world.steps.carry_out([settle])
    assert stopped.value.code == "NODE_UNREACHABLE"


@pytest.mark.parametrize(("code", "patience"), [("SSH_HOST_KEY", 60), ("NODE_UNREACHABLE", 0)])
def test_nobody_waits_for_what_does_not_pass_or_should_be_there(tmp_path: Path, code: str, patience: float) -> None:
    world = World(tmp_path)
    with pytest.raises(Gb10Error) as stopped:
        world.steps.carry_out([replace(world.step("step", patience_seconds=patience), verify=Booting(code, 1))])
    assert stopped.value.code == code
    assert world.ran == []
