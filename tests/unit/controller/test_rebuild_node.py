"""The rebuild of one node: decisions from the answers of the nodes and from the journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.cluster.queries import BELONGINGS, ENGINE, PODS, STORE, models_of
from gb10.controller.cluster.view import download_command
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.observation import Verdict
from gb10.controller.rebuild.plan import NodePlan, preview
from gb10.controller.rebuild.runs import Progress, record_accepted, record_decisions
from gb10.controller.rebuild.snapshot import Served
from gb10.facts.reading.docker import Belongings
from tests.unit.controller.fake_run import SNAPSHOT, FakeRun
from tests.unit.controller.hosts import saying
from tests.unit.controller.node_answers import cache, engine, image, store
from tests.unit.controller.two_nodes import INVENTORY, gpu, identity, node


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def inventory_with(**data: Any) -> Inventory:
    """Return two nodes with more settings."""
    return Inventory("inventory.py", tuple(saying(host, **data) for host in INVENTORY.hosts))


def run_step(node: NodePlan, name: str) -> None:
    """Run a step without verifying it."""
    next(step for step in node.steps() if step.name == name).run()


def override(run: FakeRun, overrides: dict[str, str], *, rebootstrap: bool = False) -> None:
    """Record the overrides of a person."""
    record_decisions(run.journal, run.tools().report, overrides, rebootstrap=rebootstrap)


def accept(run: FakeRun, *codes: str) -> None:
    """Record that a person accepts a refused restore."""
    record_accepted(run.journal, run.tools().report, codes)


def test_an_override_counts_for_one_node() -> None:
    run = FakeRun()
    override(run, {"backup": "it is empty"})
    worker, head = run.rebuild("spark-2"), run.rebuild("Spark-1")
    assert worker.target.history.overrides == {"backup": "it is empty"}
    assert head.target.history.overrides == {}
    assert "backup" in [step.name for step in head.steps()]
    assert "backup" not in [step.name for step in worker.steps()]

    run.journal.write("node-done", node="spark-2")
    override(run, {"solo": "nobody uses it"})
    assert head.target.history.overrides == {"solo": "nobody uses it"}


def test_a_resumed_run_remembers_rebootstrap() -> None:
    run = FakeRun()
    override(run, {}, rebootstrap=True)
    override(run, {})
    assert run.rebuild("Spark-1").target.history.rebootstrap
    assert NodeHistory(run.journal, "Spark-1").snapshot == SNAPSHOT


def test_only_a_refused_restore_can_be_accepted() -> None:
    run = FakeRun()
    with pytest.raises(Gb10Error, match="none was"):
        accept(run, "RESTORE_UNPROVEN")
    worker = run.rebuild("spark-2")
    run_step(worker, "restore")
    assert run.deployed[-1][2]["accept"] is None

    run.journal.write("step-failed", node="spark-2", step="restore", code="RESTORE_UNPROVEN", reason="nobody tried it")
    with pytest.raises(Gb10Error, match="was not refused for that"):
        accept(run, "RESTORE_UNPROVEN", "RESTORE_OTHER_MACHINE")
    accept(run, "RESTORE_UNPROVEN")
    run_step(worker, "restore")
    assert run.deployed[-1][2]["accept"] == ["RESTORE_UNPROVEN"]

    run.journal.write("step-done", node="spark-2", step="restore")
    with pytest.raises(Gb10Error, match="none was"):
        accept(run, "RESTORE_UNPROVEN")


def test_what_an_override_loses_is_reported_and_not_awaited() -> None:
    tags = ("here:1", "both:1", "saved:1", "other:1")
    run = FakeRun(inventory_with(images=tags))
    _, worker = run.inventory.hosts
    run.answers[models_of(worker)] = {
        "Spark-1": cache("org/both"),
        "spark-2": cache("org/both", "org/only"),
    }
    run.answers[ENGINE] = {
        "spark-2": engine(*tags),
        "Spark-1": (image("both:1"), image("other:1", "another")),
    }
    run.answers[STORE] = {"Spark-1": store("saved:1", "other:1"), "spark-2": None}
    override(run, {"models": "there is no room", "images": "they can be pulled"})
    plan = run.rebuild()
    assert not {"sync-models", "sync-images", "save-images"} & {step.name for step in plan.steps()}

    with pytest.raises(Gb10Error, match="backup: ") as closed:
        run_step(plan, "gate")

    assert "images: " not in closed.value.summary
    assert "models: " not in closed.value.summary
    snapshot = NodeHistory(run.journal, "spark-2").snapshot
    assert snapshot is not None
    assert set(snapshot.models) == {"org/both"}
    assert snapshot.lost_models == ("org/only",)
    assert set(snapshot.images) == {"both:1", "saved:1"}
    assert snapshot.lost_images == ("here:1", "other:1")
    (said,) = run.journal.of("left-behind")
    assert said["names"] == ["org/only", "here:1", "other:1"]


@pytest.mark.parametrize(("hours", "counts"), [(0, True), (0.9, True), (1.1, False), (240, False)])
def test_a_backup_counts_for_an_hour_in_a_run_of_any_age(hours: float, counts: bool) -> None:
    run = FakeRun()
    worker = run.rebuild()
    run.journal.records[-1]["at"] = "2026-01-01T00:00:00.000Z"  # the run began long before
    run.back_up(seconds_ago=hours * 3600)
    demand = next(demand for demand in preview(worker, {}).gate if demand.name == "backup")
    assert demand.holds is counts
    assert counts or f"{hours:.0f} h old" in demand.text
    made = next(step for step in worker.steps() if step.name == "backup").verify()
    assert made.holds is counts


def test_verdicts_are_recorded_and_the_person_is_notified() -> None:
    run = FakeRun()
    worker = run.rebuild()
    worker.machine.ask(again=False)
    worker.machine.report(Verdict("gone", "spark-2 is gone"))
    worker.machine.report(Verdict("gone", "still waiting: spark-2 is gone", reminder=True))
    worker.machine.report(Verdict("no-login", "a new system answers. On it:", ("mkdir .ssh",)))
    assert run.notified == ["spark-2 may be wiped now", "a new system answers. On it: mkdir .ssh"]
    assert [record["kind"] for record in run.journal.of("sighted")] == ["gone", "no-login"]
    waited = Progress(run.journal).sighted
    assert waited is not None
    assert waited["lines"] == ["mkdir .ssh"]

    worker.machine.ask(again=True)
    assert [record["event"] for record in run.events].count("instructions") == 1
    assert len(list(run.journal.of("wipe-asked"))) == 1
    run.journal.write("returned", node="spark-2", host_key="SHA256:1", machine_id="1")
    assert Progress(run.journal).sighted is None


@pytest.mark.parametrize(
    ("known", "lacking"),
    [
        ({"machine_id": None, "macs": {"enP7s7": "4c:bb:47:01:02:03"}}, "no machine-id:"),
        ({"machine_id": "0" * 32, "macs": {}}, "no MAC:"),
        ({"machine_id": "", "macs": {}}, "no machine-id and no MAC:"),
    ],
)
def test_a_node_without_machine_id_or_mac_is_not_rebuilt(known: dict[str, Any], lacking: str) -> None:
    run = FakeRun()
    run.change("spark-2", identity=identity("spark-2", **known))
    with pytest.raises(Gb10Error, match=lacking) as refused:
        run_step(run.rebuild(snapshot=None), "preflight")
    assert refused.value.code == "REBUILD_IMPOSSIBLE"
    assert NodeHistory(run.journal, "spark-2").snapshot is None


def test_give_up_removes_the_cordon_despite_an_override() -> None:
    run = FakeRun(answers={PODS: {"Spark-1": {}}})
    run.change("Spark-1", nodes=(node("spark-1"), node("spark-2", cordoned=True)))
    override(run, {"drained": "a pod does not want to go"})
    assert run.rebuild().take_back() == ["pods may run on spark-2 again"]
    assert run.deployed == [("admit_node", ("Spark-1",), {"node": "spark-2", "cordoned": False})]


def test_give_up_fails_if_the_cordon_is_unknown() -> None:
    run = FakeRun()
    run.change("Spark-1", nodes=None)
    with pytest.raises(Gb10Error, match="no API server answers"):
        run.rebuild().take_back()


SERVING = {
    "serving_modes": {"cluster": {"models": ["org/large"]}, "solo": {"models": ["org/small"], "image": "vllm:small"}},
    "serving_image": "vllm:large",
}


def test_models_that_serving_needs_always_come_back() -> None:
    run = FakeRun(inventory_with(**SERVING, rebuild_models=["org/chosen"]))
    names = ("org/chosen", "org/large", "org/small", "org/other")
    run.answers[models_of(run.inventory.hosts[1])] = {
        "Spark-1": None,
        "spark-2": cache(*names),
    }
    worker = run.rebuild()
    snapshot = worker.target.now()
    assert set(snapshot.models) == {"org/chosen", "org/large", "org/small"}
    assert snapshot.lost_models == ("org/other",)


def test_a_remedy_fits_what_is_missing_and_names_the_inventory() -> None:
    run = FakeRun(inventory_with(**SERVING))
    run.answers[models_of(run.inventory.hosts[1])] = {
        "Spark-1": None,
        "spark-2": cache("org/large"),
    }
    run.options = " -i lab/inventory.py"
    worker = run.rebuild(snapshot=replace(SNAPSHOT, served=Served("cluster", "Spark-1")))
    remedies = {demand.name: demand.remedy for demand in preview(worker, {}).gate}
    assert remedies["models"] == "ssh 198.18.0.11 hf download org/small"  # no node has it, so it cannot be copied
    assert remedies["images"] == " && ".join(
        f"ssh 198.18.0.11 sudo docker pull vllm:{size}" for size in ("large", "small")
    )
    assert remedies["solo"] == "gb10 serving solo -i lab/inventory.py Spark-1"
    assert remedies["lock"] == "gb10 rebuild unlock -i lab/inventory.py Spark-1"
    assert "gb10 backup prove -i lab/inventory.py spark-2" in remedies["backup"]

    run.answers[models_of(worker.target.host)]["spark-2"] = cache("org/large", "org/small")
    worker.tools.view.forget()
    remedies = {demand.name: demand.remedy for demand in preview(worker, {}).gate}
    assert remedies["models"] == "gb10 sync models -i lab/inventory.py spark-2 Spark-1"


def test_unhealthy_nodes_are_refused_with_their_remedy() -> None:
    run = FakeRun()
    run.change("spark-2", gpu=gpu(trouble="no devices were found"))
    with pytest.raises(Gb10Error, match="no devices were found") as refused:
        run_step(run.rebuild(snapshot=None), "preflight")
    assert "nvidia-smi" in refused.value.remedy
    assert "bootstrap" not in refused.value.remedy


def test_the_download_command_of_a_dataset_names_its_type() -> None:
    assert download_command(INVENTORY.hosts[0], "datasets/org/name").endswith(
        " hf download --repo-type dataset org/name"
    )


def test_the_request_for_a_wipe_names_what_is_lost() -> None:
    run = FakeRun(answers={BELONGINGS: {"spark-2": Belongings(("notebooks",), ("registry",))}})
    worker = run.rebuild(snapshot=replace(SNAPSHOT, lost_images=("old:1",), own_device=True))
    worker.machine.ask(again=False)
    (asked,) = run.journal.of("wipe-asked")
    text = "\n".join(asked["risks"])
    for lost in ("notebooks", "registry", "old:1", "backup_paths"):
        assert lost in text
    run.answers[BELONGINGS] = {}
    assert any("could not be listed" in line for line in worker.machine.risks())


@pytest.mark.parametrize("step", ["preflight", "gate"])
def test_another_version_of_k3s_is_refused_before_the_wipe(step: str) -> None:
    nodes = Inventory("inventory.py", tuple(saying(host, k3s_version="v1.37.0+k3s1") for host in INVENTORY.hosts))
    run = FakeRun(nodes)
    with pytest.raises(Gb10Error, match=r"v1\.36\.4\+k3s1, and would come back with v1\.37\.0") as refused:
        run_step(run.rebuild(), step)
    assert refused.value.code == "REBUILD_K3S_VERSION"
    assert not list(run.journal.of("gate"))


def test_another_version_of_k3s_is_fine_without_a_restore() -> None:
    nodes = Inventory("inventory.py", tuple(saying(host, k3s_version="v1.37.0+k3s1") for host in INVENTORY.hosts))
    run = FakeRun(nodes)
    override(run, {"backup": "it is empty"})
    run.change("spark-2", identity=identity("spark-2", macs=dict(SNAPSHOT.identity.macs)))
    run_step(run.rebuild(), "preflight")


@pytest.mark.parametrize(("step", "deploy"), [("sync-models", "models"), ("sync-images", "sync_images")])
def test_a_copy_of_a_killed_run_is_awaited(step: str, deploy: str) -> None:
    run = FakeRun(inventory_with(images=["org/image:1"]))
    models = {"Spark-1": None, "spark-2": cache("org/model")}
    run.answers[models_of(run.inventory.hosts[1])] = models
    run.answers[ENGINE]["spark-2"] = engine("org/image:1")
    run.failures, run.failure_count = {deploy: Gb10Error("COPY_BUSY", "another copy is running", host="Spark-1")}, 2
    run_step(run.rebuild(snapshot=None), step)
    assert [deploy for deploy, _, _ in run.deployed] == [deploy] * 3


def test_a_node_that_reboots_is_locked_when_it_is_back() -> None:
    run = FakeRun()
    run.failures = {"lock_nodes": Gb10Error("NODE_UNREACHABLE", host="spark-2", reason="it boots")}
    run.failure_count = 2
    run_step(run.rebuild(), "settle")
    assert [(deploy, hosts) for deploy, hosts, _ in run.deployed] == [("lock_nodes", ("Spark-1", "spark-2"))] * 3
    assert [record["text"] for record in run.events] == ["spark-2 does not answer: it boots"]
