"""The step runner: steps that are done are skipped, failures stop the rest, and hooks can forbid a step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal
from gb10.controller.rebuild.person import Hooks
from gb10.controller.rebuild.step import Evidence, Step, StepRunner, undo
from gb10.controller.rebuild.tools import make_tools
from tests.unit.controller.two_nodes import INVENTORY


def _no_call(*_: object, **__: object) -> Any:
    """Fail: steps of this test ask no node and no person."""
    raise AssertionError


class World:
    """Things that are done or not, and the events about them."""

    def __init__(self, folder: Path, hooks: Hooks | None = None) -> None:
        self.done: set[str] = set()
        self.ran: list[str] = []
        self.events: list[str] = []
        self.killed: str | None = None
        self.after = False
        self.journal = Journal.create("run", folder)
        tools = make_tools(
            INVENTORY, _no_call, self.journal, listener=self._record, watch=_no_call, ask=None, note=_no_call
        )
        tools.view.absent.update(INVENTORY.names)  # no node is there to keep the journal
        self.runner = StepRunner("spark-2", replace(tools, hooks=hooks or Hooks(), poll_seconds=0.01))

    def _record(self, record: Mapping[str, Any], /) -> None:
        self.events.append(f"{record['event']} {record.get('step', '')}".strip())

    def kill(self, name: str, *, after: bool) -> None:
        """Kill the run once, right before or after a step does its work."""
        self.killed, self.after = name, after

    def strike(self, name: str, *, after: bool) -> None:
        if (self.killed, self.after) == (name, after):
            self.killed = None
            raise KeyboardInterrupt

    def step(self, name: str, *, works: bool = True, **more: Any) -> Step:
        return WorldStep(self, name, works, **more)


class WorldStep(Step):
    """A step that does one thing in the world."""

    def __init__(
        self,
        world: World,
        name: str,
        works: bool,
        looks_first: bool = True,
        patience: float = 0.0,
        undone: str | None = None,
        verify: Callable[[], Evidence] | None = None,
    ) -> None:
        self.name, self.title = name, name.title()
        self.looks_first = looks_first
        self._world, self._works, self._patience, self._undone, self._verify = world, works, patience, undone, verify

    @property
    def patience_seconds(self) -> float:
        return self._patience

    def plan(self) -> str:
        return self.name

    def verify(self) -> Evidence:
        if self._verify:
            return self._verify()
        is_done = self.name in self._world.done
        return Evidence(is_done, "done" if is_done else "not done")

    def run(self) -> None:
        self._world.strike(self.name, after=False)
        self._world.ran.append(self.name)
        if self._works:
            self._world.done.add(self.name)
        self._world.strike(self.name, after=True)

    def undo(self) -> str | None:
        return self._undone


def test_a_step_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.done.add("copy")
    world.runner.run([world.step("copy"), world.step("drain")])
    assert world.ran == ["drain"]
    assert world.events == ["step-held copy", "step-began drain", "step-done drain"]


def test_facts_decide_and_not_the_journal(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.runner.run([world.step("copy")])
    world.done.clear()
    world.runner.run([world.step("copy")])
    assert world.ran == ["copy", "copy"]


def test_a_step_that_is_not_done_after_its_run_stops_the_rest(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(Gb10Error, match="not done"):
        world.runner.run([world.step("copy", works=False), world.step("wipe")])
    assert world.ran == ["copy"]
    assert world.events[-1] == "step-failed copy"


def test_an_expensive_check_is_skipped_in_a_first_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.done.add("provision")
    world.runner.run([world.step("provision", looks_first=False)])
    world.runner.run([world.step("provision", looks_first=False)])
    assert world.ran == ["provision"]


def test_a_hook_can_forbid_a_step(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n[ "$2" != wipe ] || { echo not today; exit 1; }\n'
    )
    hook.chmod(0o755)
    world = World(tmp_path, Hooks([str(hook)]))
    with pytest.raises(Gb10Error, match="not today"):
        world.runner.run([world.step("gate"), world.step("wipe")])
    assert world.ran == ["gate"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["before gate spark-2", "after gate spark-2", "before wipe spark-2"]


def test_steps_are_undone_in_reverse_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    steps = [world.step("solo", undone="serving"), world.step("copy"), world.step("more", undone="more")]
    assert list(undo(steps)) == ["more", "serving"]


class Booting:
    """A `verify` that fails some times with an error."""

    def __init__(self, code: str, times: int) -> None:
        self.code, self.times = code, times

    def __call__(self) -> Evidence:
        self.times -= 1
        if self.times >= 0:
            raise Gb10Error(self.code, host="spark-2")
        return Evidence(True, "at rest")


def test_a_booting_node_is_awaited(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle = world.step("settle", patience=60, verify=Booting("NODE_UNREACHABLE", 3))
    world.runner.run([settle])
    assert world.events == ["step-began settle", "waiting settle", "step-done settle"]


def test_a_node_that_stays_away_is_the_error_of_the_wait(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle = world.step("settle", patience=0.01, verify=Booting("NODE_UNREACHABLE", 9))
    with pytest.raises(Gb10Error, match="spark-2 does not answer") as stopped:
        world.runner.run([settle])
    assert stopped.value.code == "NODE_UNREACHABLE"


@pytest.mark.parametrize(("code", "patience"), [("SSH_HOST_KEY", 60), ("NODE_UNREACHABLE", 0)])
def test_lasting_errors_and_impatient_steps_are_not_awaited(tmp_path: Path, code: str, patience: float) -> None:
    world = World(tmp_path)
    with pytest.raises(Gb10Error) as stopped:
        world.runner.run([world.step("step", patience=patience, verify=Booting(code, 1))])
    assert stopped.value.code == code
    assert world.ran == []


@given(done=st.sets(st.integers(0, 5)), killed=st.integers(0, 5), after=st.booleans())
@settings(deadline=None, max_examples=20)
def test_killed_anywhere_a_run_does_each_step_once(done: set[int], killed: int, after: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.done |= {f"step-{number}" for number in done}
        steps = [world.step(f"step-{number}") for number in range(6)]
        world.kill(f"step-{killed}", after=after)
        if killed in done:
            world.runner.run(steps)
        else:
            with pytest.raises(KeyboardInterrupt):
                world.runner.run(steps)
            assert world.events[-1] == f"step-interrupted step-{killed}"
            world.runner.run(steps)
        assert world.ran == [f"step-{number}" for number in range(6) if number not in done]
