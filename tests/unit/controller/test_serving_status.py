"""What all nodes together serve: told when it is clear, undecided when it is not, never guessed."""

from __future__ import annotations

from typing import Any

import pytest

from gb10.controller.cluster.serving import build_serving, described, needs, state_fact
from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.results import FactsResult
from tests.unit.controller.hosts import inventory_host, saying

LARGE, SMALL = "acme/large", "acme/small"
DATA: dict[str, Any] = {
    "serving_modes": {"cluster": {"models": [LARGE]}, "solo": {"models": [SMALL], "image": "vllm:small"}},
    "serving_image": "vllm:large",
    "node_ip": None,
}
NODES = Inventory(
    "i",
    (
        inventory_host("spark-1", "head", ssh_hostname="198.18.0.11", **DATA),
        inventory_host("spark-2", "workers", ssh_hostname="198.18.0.12", **{**DATA, "node_ip": "10.0.0.2"}),
    ),
)


def said(mode: str, health: str = "none", **more: Any) -> dict[str, Any]:
    """What the fact says of a node."""
    engine = {"pid": 1, "container": "c", "mode": mode, "why": "so", "age_seconds": 1.0}
    rest: dict[str, Any] = {"reasons": [], "containers": [], "models": [], "completion": None, "trouble": None}
    return {"mode": mode, "engines": [engine] if mode in ("cluster", "solo") else [], "health": health, **rest, **more}


def status(complete: bool = True, **nodes: Any) -> ServingStatus:
    """The status of nodes; one of which nothing was heard is left out of `nodes`."""
    values = {name.replace("_", "-"): value for name, value in nodes.items()}
    lost = tuple(Gb10Error("NODE_UNREACHABLE", "gone", host=name) for name in NODES.names if name not in values)
    return build_serving(NODES, FactsResult({state_fact(NODES, complete): values}, NODES.names, lost), complete)


UP = said("cluster", "up", models=[LARGE], completion=True)
ALONE = said("solo", "up", models=[SMALL], completion=True)


def test_the_cluster_serves_by_its_head() -> None:
    found = status(spark_1=UP, spark_2=said("cluster"))
    assert (found.mode, found.node, found.healthy) == ("cluster", "spark-1", True)
    assert found.address == "http://198.18.0.11:8000/v1"
    assert found.summary == f"{LARGE} over all nodes, at http://198.18.0.11:8000/v1"


def test_one_serves_alone_also_while_the_other_is_away() -> None:
    for found in (status(spark_1=said("off"), spark_2=ALONE), status(spark_2=ALONE)):
        assert (found.mode, found.node, found.healthy) == ("solo", "spark-2", True)
        assert found.address == "http://10.0.0.2:8000/v1"


def test_nothing_is_served() -> None:
    found = status(spark_1=said("off"), spark_2=said("off"))
    assert (found.mode, found.healthy, found.reasons) == ("off", False, ())
    ended = {"name": "gb10-serving-solo", "mode": "solo", "running": False, "exit_code": 1}
    found = status(spark_1=said("off"), spark_2=said("off", containers=[ended]))
    assert (found.mode, found.reasons) == ("off", ("spark-2: gb10-serving-solo ended with status 1",))


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"spark_1": said("undecided", reasons=["strange"]), "spark_2": ALONE}, "spark-1: strange"),
        ({"spark_1": UP, "spark_2": ALONE}, "spark-1 serves for a cluster, spark-2 alone"),
        ({"spark_1": ALONE, "spark_2": ALONE}, "each of spark-1, spark-2 serves alone"),
        ({"spark_1": said("off")}, "spark-2: gone"),
    ],
)
def test_what_is_not_clear_is_undecided(nodes: dict[str, Any], why: str) -> None:
    found = status(**nodes)
    assert (found.mode, found.reasons, found.healthy) == ("undecided", (why,), False)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"spark_1": said("cluster"), "spark_2": said("cluster")}, "nothing listens on spark-1 yet: it loads"),
        ({"spark_1": {**UP, "health": "dead"}, "spark_2": said("cluster")}, "what serves on spark-1 is dead"),
        ({"spark_1": UP, "spark_2": said("off")}, "nothing serves on spark-2"),
        ({"spark_1": UP}, "spark-2: gone"),
        ({"spark_1": {**UP, "models": ["other"]}, "spark_2": said("cluster")}, f"it offers other, not {LARGE}"),
        ({"spark_1": {**UP, "completion": False}, "spark_2": said("cluster")}, "it completes no prompt"),
    ],
)
def test_what_serves_and_does_not_answer_says_why(nodes: dict[str, Any], why: str) -> None:
    found = status(**nodes)
    assert (found.mode, found.healthy) == ("cluster", False)
    assert why in found.reasons[0]


def test_without_a_completion_a_hanging_engine_passes() -> None:
    assert status(complete=False, spark_1={**UP, "completion": None}, spark_2=said("cluster")).healthy


def test_rays_worker_belongs_to_the_cluster() -> None:
    engine = {"pid": 1, "container": "c", "mode": "member", "why": "Ray", "age_seconds": 1.0}
    helps = said("undecided", engines=[engine], reasons=["Ray"])
    assert status(spark_1=UP, spark_2=helps).mode == "cluster"


def test_what_the_modes_need() -> None:
    assert needs(NODES) == ((LARGE, SMALL), ("vllm:large", "vllm:small"))
    assert needs(NODES, ["solo"]) == ((SMALL,), ("vllm:small",))
    bare = Inventory("i", (InventoryHost("spark-1"),))
    assert (described(bare), needs(bare)) == (False, ((), ()))


def test_settings_that_make_no_sense_are_an_error_with_the_name_of_the_key() -> None:
    wrong = saying(NODES.hosts[0], serving_modes={"cluster": {"model": LARGE}})
    with pytest.raises(Gb10Error, match=r"serving_modes\.cluster") as error:
        needs(Inventory("i", (wrong,)))
    assert error.value.code == "SETTINGS_INVALID"
