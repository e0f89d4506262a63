"""The rebuild of one node, as it decides by what the nodes say and by what the journal remembers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.cluster.asks import BELONGINGS, ENGINE, PODS, STORE, models_of
from gb10.controller.cluster.sight import download_command
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.rebuild.arrival import Seen
from gb10.controller.rebuild.memory import Served, recall
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.preview import preview
from gb10.controller.rebuild.runs import Progress, accept, decide
from gb10.facts.reading.docker import Belongings
from tests.unit.controller.hosts import saying
from tests.unit.controller.said import cache, engine, image, store
from tests.unit.controller.two_nodes import INVENTORY, gpu, identity, node
from tests.unit.controller.workshop import MEMORY, Workshop


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))


def wanting(**data: Any) -> Inventory:
    """Two nodes with more in their data."""
    return Inventory("inventory.py", tuple(saying(host, **data) for host in INVENTORY.hosts))


def carry_out(node: NodePlan, name: str) -> None:
    """What a step does, without its proof."""
    next(step for step in node.steps() if step.name == name).run()


def without(shop: Workshop, overrides: dict[str, str], *, rebootstrap: bool = False) -> None:
    """A person decides what to do without."""
    decide(shop.journal, shop.tools().report, overrides, rebootstrap=rebootstrap)


def agree(shop: Workshop, *codes: str) -> None:
    """A person agrees to what speaks against a restore."""
    accept(shop.journal, shop.tools().report, codes)


def test_an_override_counts_for_one_node_only() -> None:
    shop = Workshop()
    without(shop, {"backup": "it is empty"})
    worker, head = shop.rebuild("spark-2"), shop.rebuild("Spark-1")
    assert worker.parts.history.overrides == {"backup": "it is empty"}
    assert head.parts.history.overrides == {}
    assert "backup" in [step.name for step in head.steps()]
    assert "backup" not in [step.name for step in worker.steps()]

    shop.journal.write("node-done", node="spark-2")
    without(shop, {"solo": "nobody uses it"})
    assert head.parts.history.overrides == {"solo": "nobody uses it"}


def test_a_resumed_run_still_wants_the_new_cluster() -> None:
    shop = Workshop()
    without(shop, {}, rebootstrap=True)
    without(shop, {})
    assert shop.rebuild("Spark-1").parts.history.rebootstrap
    assert recall(shop.journal, "Spark-1") == MEMORY


def test_only_a_refused_restore_can_be_agreed_to() -> None:
    shop = Workshop()
    with pytest.raises(Gb10Error, match="none was"):
        agree(shop, "RESTORE_UNPROVEN")
    worker = shop.rebuild("spark-2")
    carry_out(worker, "restore")
    assert shop.worked[-1][2]["accept"] is None

    shop.journal.write("step-failed", node="spark-2", step="restore", code="RESTORE_UNPROVEN", reason="nobody tried it")
    with pytest.raises(Gb10Error, match="was not refused for that"):
        agree(shop, "RESTORE_UNPROVEN", "RESTORE_OTHER_MACHINE")
    agree(shop, "RESTORE_UNPROVEN")
    carry_out(worker, "restore")
    assert shop.worked[-1][2]["accept"] == ["RESTORE_UNPROVEN"]

    shop.journal.write("step-done", node="spark-2", step="restore")
    with pytest.raises(Gb10Error, match="none was"):
        agree(shop, "RESTORE_UNPROVEN")


def test_what_an_override_loses_is_said_and_not_waited_for() -> None:
    tags = ("here:1", "both:1", "saved:1", "other:1")
    shop = Workshop(wanting(images=tags))
    _, worker = shop.inventory.hosts
    shop.says[models_of(worker)] = {
        "Spark-1": cache("org/both"),
        "spark-2": cache("org/both", "org/only"),
    }
    shop.says[ENGINE] = {
        "spark-2": engine(*tags),
        "Spark-1": (image("both:1"), image("other:1", "another")),
    }
    shop.says[STORE] = {"Spark-1": store("saved:1", "other:1"), "spark-2": None}
    without(shop, {"models": "there is no room", "images": "they can be pulled"})
    plan = shop.rebuild()
    assert not {"sync-models", "sync-images", "save-images"} & {step.name for step in plan.steps()}

    with pytest.raises(Gb10Error, match="backup: ") as closed:
        carry_out(plan, "gate")

    assert "images: " not in closed.value.summary
    assert "models: " not in closed.value.summary
    memory = recall(shop.journal, "spark-2")
    assert memory is not None
    assert set(memory.models) == {"org/both"}
    assert memory.lost_models == ("org/only",)
    assert set(memory.images) == {"both:1", "saved:1"}
    assert memory.lost_images == ("here:1", "other:1")
    (said,) = shop.journal.of("left-behind")
    assert said["names"] == ["org/only", "here:1", "other:1"]


@pytest.mark.parametrize(("hours", "counts"), [(0, True), (0.9, True), (1.1, False), (240, False)])
def test_a_backup_counts_for_an_hour_in_a_run_of_any_age(hours: float, counts: bool) -> None:
    shop = Workshop()
    worker = shop.rebuild()
    shop.journal.records[-1]["at"] = "2026-01-01T00:00:00.000Z"  # the run began long before
    shop.back_up(seconds_ago=hours * 3600)
    demand = next(demand for demand in preview(worker, {}).gate if demand.name == "backup")
    assert demand.holds is counts
    assert counts or f"{hours:.0f} h old" in demand.text
    made = next(step for step in worker.steps() if step.name == "backup").verify()
    assert made.holds is counts


def test_what_is_seen_of_a_node_is_remembered_and_told() -> None:
    shop = Workshop()
    worker = shop.rebuild()
    worker.box.ask(again=False)
    worker.box.seen(Seen("gone", "spark-2 is gone"))
    worker.box.seen(Seen("gone", "still waiting: spark-2 is gone", reminder=True))
    worker.box.seen(Seen("no-login", "a new system answers. On it:", ("mkdir .ssh",)))
    assert shop.told == ["spark-2 may be wiped now", "a new system answers. On it: mkdir .ssh"]
    assert [record["kind"] for record in shop.journal.of("sighted")] == ["gone", "no-login"]
    waited = Progress(shop.journal).waits_for
    assert waited is not None
    assert waited.lines == ("mkdir .ssh",)

    worker.box.ask(again=True)
    assert [record["event"] for record in shop.heard].count("instructions") == 1
    assert len(list(shop.journal.of("wipe-asked"))) == 1
    shop.journal.write("returned", node="spark-2", host_key="SHA256:1", machine_id="1")
    assert Progress(shop.journal).waits_for is None


@pytest.mark.parametrize(
    ("known", "lacking"),
    [
        ({"machine_id": None, "macs": {"enP7s7": "4c:bb:47:01:02:03"}}, "no machine-id:"),
        ({"machine_id": "0" * 32, "macs": {}}, "no MAC:"),
        ({"machine_id": "", "macs": {}}, "no machine-id and no MAC:"),
    ],
)
def test_a_node_without_machine_id_or_mac_is_not_rebuilt(known: dict[str, Any], lacking: str) -> None:
    shop = Workshop()
    shop.change("spark-2", identity=identity("spark-2", **known))
    with pytest.raises(Gb10Error, match=lacking) as refused:
        carry_out(shop.rebuild(memory=None), "preflight")
    assert refused.value.code == "REBUILD_IMPOSSIBLE"
    assert recall(shop.journal, "spark-2") is None


def test_giving_up_takes_the_cordon_back_also_with_an_override() -> None:
    shop = Workshop(says={PODS: {"Spark-1": {}}})
    shop.change("Spark-1", nodes=(node("spark-1"), node("spark-2", cordoned=True)))
    without(shop, {"drained": "a pod does not want to go"})
    assert shop.rebuild().take_back() == ["pods may run on spark-2 again"]
    assert shop.worked == [("admit_node", ("Spark-1",), {"node": "spark-2", "cordoned": False})]


def test_giving_up_fails_if_the_cordon_cannot_be_seen() -> None:
    shop = Workshop()
    shop.change("Spark-1", nodes=None)
    with pytest.raises(Gb10Error, match="no API server answers"):
        shop.rebuild().take_back()


SERVING = {
    "serving_modes": {"cluster": {"models": ["org/large"]}, "solo": {"models": ["org/small"], "image": "vllm:small"}},
    "serving_image": "vllm:large",
}


def test_models_that_serving_needs_always_come_back() -> None:
    shop = Workshop(wanting(**SERVING, rebuild_models=["org/chosen"]))
    names = ("org/chosen", "org/large", "org/small", "org/other")
    shop.says[models_of(shop.inventory.hosts[1])] = {
        "Spark-1": None,
        "spark-2": cache(*names),
    }
    worker = shop.rebuild()
    memory = worker.parts.notebook.now()
    assert set(memory.models) == {"org/chosen", "org/large", "org/small"}
    assert memory.lost_models == ("org/other",)


def test_a_remedy_fits_what_is_missing_and_names_the_inventory() -> None:
    shop = Workshop(wanting(**SERVING))
    shop.says[models_of(shop.inventory.hosts[1])] = {
        "Spark-1": None,
        "spark-2": cache("org/large"),
    }
    shop.options = " -i lab/inventory.py"
    worker = shop.rebuild(memory=replace(MEMORY, served=Served("cluster", "Spark-1")))
    remedies = {demand.name: demand.remedy for demand in preview(worker, {}).gate}
    assert remedies["models"] == "ssh 198.18.0.11 hf download org/small"  # neither node could copy it
    assert remedies["images"] == " && ".join(
        f"ssh 198.18.0.11 sudo docker pull vllm:{size}" for size in ("large", "small")
    )
    assert remedies["solo"] == "gb10 serving solo -i lab/inventory.py Spark-1"
    assert remedies["lock"] == "gb10 rebuild unlock -i lab/inventory.py Spark-1"
    assert "gb10 backup prove -i lab/inventory.py spark-2" in remedies["backup"]

    shop.says[models_of(worker.target)]["spark-2"] = cache("org/large", "org/small")
    worker.tools.sight.forget()
    remedies = {demand.name: demand.remedy for demand in preview(worker, {}).gate}
    assert remedies["models"] == "gb10 sync models -i lab/inventory.py spark-2 Spark-1"


def test_unwell_nodes_are_refused_with_what_helps_them() -> None:
    shop = Workshop()
    shop.change("spark-2", gpu=gpu(trouble="no devices were found"))
    with pytest.raises(Gb10Error, match="no devices were found") as refused:
        carry_out(shop.rebuild(memory=None), "preflight")
    assert "nvidia-smi" in refused.value.remedy
    assert "bootstrap" not in refused.value.remedy


def test_a_data_set_is_downloaded_as_one() -> None:
    assert download_command(INVENTORY.hosts[0], "datasets/org/name").endswith(
        " hf download --repo-type dataset org/name"
    )


def test_whoever_is_asked_to_wipe_a_node_is_told_what_is_lost_with_it() -> None:
    shop = Workshop(says={BELONGINGS: {"spark-2": Belongings(("notebooks",), ("registry",))}})
    worker = shop.rebuild(memory=replace(MEMORY, lost_images=("old:1",), own_device=True))
    worker.box.ask(again=False)
    (asked,) = shop.journal.of("wipe-asked")
    text = "\n".join(asked["risks"])
    for lost in ("notebooks", "registry", "old:1", "backup_paths"):
        assert lost in text
    shop.says[BELONGINGS] = {}
    assert any("nobody can tell which volumes" in line for line in worker.box.risks())


@pytest.mark.parametrize("step", ["preflight", "gate"])
def test_another_version_of_k3s_is_refused_before_the_wipe(step: str) -> None:
    nodes = Inventory("inventory.py", tuple(saying(host, k3s_version="v1.37.0+k3s1") for host in INVENTORY.hosts))
    shop = Workshop(nodes)
    with pytest.raises(Gb10Error, match=r"v1\.36\.4\+k3s1, and would come back with v1\.37\.0") as refused:
        carry_out(shop.rebuild(), step)
    assert refused.value.code == "REBUILD_K3S_VERSION"
    assert not list(shop.journal.of("gate"))


def test_another_version_of_k3s_is_fine_if_none_is_restored() -> None:
    nodes = Inventory("inventory.py", tuple(saying(host, k3s_version="v1.37.0+k3s1") for host in INVENTORY.hosts))
    shop = Workshop(nodes)
    without(shop, {"backup": "it is empty"})
    shop.change("spark-2", identity=identity("spark-2", macs=dict(MEMORY.before.macs)))
    carry_out(shop.rebuild(), "preflight")


@pytest.mark.parametrize(("step", "deploy"), [("sync-models", "models"), ("sync-images", "sync_images")])
def test_a_copy_that_a_killed_run_left_is_waited_for(step: str, deploy: str) -> None:
    shop = Workshop(wanting(images=["org/image:1"]))
    models = {"Spark-1": None, "spark-2": cache("org/model")}
    shop.says[models_of(shop.inventory.hosts[1])] = models
    shop.says[ENGINE]["spark-2"] = engine("org/image:1")
    shop.fails, shop.fails_so_often = {deploy: Gb10Error("COPY_BUSY", "another copy is running", host="Spark-1")}, 2
    carry_out(shop.rebuild(memory=None), step)
    assert [deploy for deploy, _, _ in shop.worked] == [deploy] * 3


def test_a_node_that_boots_once_more_is_locked_when_it_is_back() -> None:
    shop = Workshop()
    shop.fails = {"lock_nodes": Gb10Error("NODE_UNREACHABLE", host="spark-2", reason="it boots")}
    shop.fails_so_often = 2
    carry_out(shop.rebuild(), "settle")
    assert [(deploy, hosts) for deploy, hosts, _ in shop.worked] == [("lock_nodes", ("Spark-1", "spark-2"))] * 3
    assert [record["text"] for record in shop.heard] == ["spark-2 does not answer: it boots"]
