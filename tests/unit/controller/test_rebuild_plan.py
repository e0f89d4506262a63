"""The steps of a rebuild and of a full wipe, their order, and their documentation."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gb10.controller.inventory import Inventory
from gb10.controller.journal import journals
from gb10.controller.rebuild import steps as room
from gb10.controller.rebuild.gate import DEMANDS, Safeguard
from gb10.controller.rebuild.plan import preview
from gb10.controller.rebuild.runs import record_decisions
from gb10.controller.rebuild.snapshot import Model, Served, Snapshot
from gb10.controller.rebuild.step import Step
from gb10.controller.rebuild.steps.download import Download
from gb10.controller.rebuild.steps.new_cluster import NewCluster
from gb10.controller.rebuild.wipe_all import WipeAll
from tests.unit.controller.fake_run import SNAPSHOT, FakeRun
from tests.unit.controller.hosts import saying
from tests.unit.controller.node_answers import contents
from tests.unit.controller.two_nodes import INVENTORY

DOCS = Path(__file__).parents[3] / "docs/rebuild.md"
DATA: dict[str, Any] = {
    "serving_modes": {"solo": {"models": ["org/small"]}},
    "serving_image": "vllm:1",
    "node_ip": None,
}
NO_SSHD: dict[str, Any] = {"ssh_hostname": "127.0.0.1", "ssh_port": 1}  # nothing listens there, so it fails at once
USUAL = replace(
    SNAPSHOT,
    models={"org/mine": Model("org/mine", "model", 9, ())},
    images={"own:1": contents()},
    served=Served("cluster", "Spark-1"),
)
BACK = ("settle", "provision", "restore", "rails", "images", "models", "rejoin", "admit", "green", "validate")
ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)

SNAPSHOTS = st.builds(
    replace,
    st.just(USUAL),
    models=st.sampled_from([{}, USUAL.models]),
    images=st.sampled_from([{}, USUAL.images]),
    k3s=st.sampled_from([None, "agent"]),
    served=st.sampled_from([None, Served("cluster", "Spark-1"), Served("solo", "Spark-1")]),
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def documented() -> list[str]:
    """Return the steps in the first column of the table, in order."""
    table = DOCS.read_text().partition("## The steps")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([a-z][a-z0-9, -]*) \|", table, re.MULTILINE)
    assert cells[0] == "step"
    return [name for cell in cells[1:] for name in cell.split(", ")]


def run_with(rails: bool = True, returned: bool = False) -> FakeRun:
    for old in journals():  # of an earlier example of hypothesis
        old.unlink()
    hosts = (saying(host, **DATA, **NO_SSHD, **({} if rails else {"rails": {}})) for host in INVENTORY.hosts)
    run = FakeRun(Inventory("inventory.py", tuple(hosts)))
    if returned:
        run.journal.write("backed-up", node="spark-2", backup="spark-2-1", places=["controller", "Spark-1"])
        run.journal.write("wipe-asked", node="spark-2")
        run.journal.write("returned", node="spark-2", host_key="SHA256:1")
    return run


def names(steps: Sequence[Step]) -> list[str]:
    return [step.name for step in steps]


def test_a_usual_node_has_the_documented_steps() -> None:
    assert names(run_with().rebuild(snapshot=USUAL).steps()) == documented()


@given(
    snapshot=SNAPSHOTS,
    rails=st.booleans(),
    returned=st.booleans(),
    overrides=st.sets(st.sampled_from(sorted(DEMANDS))),
)
@ANY
def test_a_node_has_the_steps_that_it_needs(
    snapshot: Snapshot, rails: bool, returned: bool, overrides: set[str]
) -> None:
    run = run_with(rails, returned)
    plan = run.rebuild(snapshot=snapshot)
    record_decisions(run.journal, run.tools().report, dict.fromkeys(overrides, "so"), rebootstrap=False)
    found = names(plan.steps())
    lost = {"saved-images"} if "images" in overrides else set()  # an image that is in no engine cannot be saved either
    kept = {step for step, demand in PROVEN_BY.items() if demand not in overrides | lost}
    needed = {
        "sync-models": snapshot.models,
        "sync-images": snapshot.images,
        "save-images": snapshot.images,
        "solo": snapshot.served,
        "solo-watched": snapshot.served,
        "drain": snapshot.k3s,
        "rails": rails,
        "models": snapshot.models,
        "images": snapshot.images,
        "rejoin": snapshot.k3s,
        "admit": snapshot.k3s,
        "cluster": snapshot.served,
    }
    wanted = [name for name in documented() if needed.get(name, True) and (name in kept or name not in PROVEN_BY)]
    if returned:
        wanted = [name for name in wanted if name in ("solo", "wipe", "cluster", *BACK)]
    assert found == wanted


PROVEN_BY = {
    "sync-models": "models",
    "sync-images": "images",
    "save-images": "saved-images",
    "solo": "solo",
    "solo-watched": "solo",
    "drain": "drained",
    "backup": "backup",
}


@given(snapshot=SNAPSHOTS, overrides=st.sets(st.sampled_from(sorted(DEMANDS))))
@ANY
def test_the_only_destructive_step_follows_the_gate(snapshot: Snapshot, overrides: set[str]) -> None:
    run = run_with()
    plan = run.rebuild(snapshot=snapshot)
    record_decisions(run.journal, run.tools().report, dict.fromkeys(overrides, "so"), rebootstrap=False)
    steps = plan.steps()
    (wipe,) = [number for number, step in enumerate(steps) if step.destroys]
    assert names(steps[wipe - 1 : wipe + 1]) == ["gate", "wipe"]


def test_solo_is_no_step_once_the_cluster_step_has_begun() -> None:
    run = run_with(returned=True)
    plan = run.rebuild(snapshot=USUAL)
    assert names(plan.steps())[:2] == ["solo", "wipe"]
    run.journal.write("step-began", node="spark-2", step="cluster")
    assert names(plan.steps())[:2] == ["wipe", "settle"]


def test_a_node_without_a_backup_is_not_restored() -> None:
    run = run_with()
    run.journal.write("returned", node="spark-2", host_key="SHA256:1")
    assert "restore" not in names(run.rebuild(snapshot=USUAL).steps())


def test_a_preview_describes_each_step() -> None:
    shown = preview(run_with().rebuild(snapshot=USUAL), {"drain": 7.0})
    assert [step.name for step in shown.steps] == documented()
    assert all(step.plan and step.title for step in shown.steps)
    assert {step.name: step.seconds_last_time for step in shown.steps}["drain"] == 7.0
    assert [step.name for step in shown.steps if step.destroys] == ["wipe"]


def test_a_full_wipe_has_the_steps_of_a_rebuild() -> None:
    run = run_with()
    rebuild = {type(step) for step in run.rebuild(snapshot=USUAL).steps()}
    wipe = WipeAll(run.tools(), download=True)
    for name in ("Spark-1", "spark-2"):
        run.journal.write("remembered", node=name, memory=USUAL.to_json())
    (first, *_) = wipe.nodes
    steps = [*first.before(), wipe.gate(wipe.nodes), wipe.wipe(), *first.after(), *wipe.together()]
    order = "preflight backup gate wipe settle provision restore cluster download validate green"
    assert names(steps) == order.split()
    assert {type(step) for step in steps} - rebuild == {NewCluster, Download}


def test_every_step_is_in_the_file_named_after_it() -> None:
    exceptions = {"serve": "cluster", "new_cluster": "cluster"}
    for path in sorted(Path(str(room.__file__)).parent.glob("[!_]*.py")):
        module = importlib.import_module(f"{room.__name__}.{path.stem}")
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, Step) and value.__module__ == module.__name__
        ]
        (step,) = found
        assert step.name == exceptions.get(path.stem, path.stem.replace("_", "-"))
        assert step.__doc__
        assert not issubclass(step, Safeguard) or step.proves in DEMANDS
