"""What all nodes together serve: told when it is clear, undecided when it is not, never guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gb10.controller.cluster.queries import serving_of
from gb10.controller.cluster.serving import build_serving, described, needs
from gb10.controller.cluster.status_model import ServingStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.results import FactsResult
from gb10.facts.reading.serving import Engine, ServingContainer
from tests.unit.controller.hosts import inventory_host, saying
from tests.unit.controller.node_answers import serving

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


def status(complete: bool = True, **nodes: Any) -> ServingStatus:
    """The status of nodes; one of which nothing was heard is left out of `nodes`."""
    values = {name.replace("_", "-"): value for name, value in nodes.items()}
    lost = tuple(Gb10Error("NODE_UNREACHABLE", "gone", host=name) for name in NODES.names if name not in values)
    return build_serving(NODES, FactsResult({serving_of(NODES, complete): values}, NODES.names, lost), complete)


UP = serving("cluster", health="up", models=(LARGE,), completion=True)
ALONE = serving("solo", health="up", models=(SMALL,), completion=True)


def test_the_cluster_serves_by_its_head() -> None:
    found = status(spark_1=UP, spark_2=serving("cluster"))
    assert (found.mode, found.node, found.healthy) == ("cluster", "spark-1", True)
    assert found.address == "http://198.18.0.11:8000/v1"
    assert found.summary == f"{LARGE} over all nodes, at http://198.18.0.11:8000/v1"


def test_one_serves_alone_also_while_the_other_is_away() -> None:
    for found in (status(spark_1=serving("off"), spark_2=ALONE), status(spark_2=ALONE)):
        assert (found.mode, found.node, found.healthy) == ("solo", "spark-2", True)
        assert found.address == "http://10.0.0.2:8000/v1"


def test_nothing_is_served() -> None:
    found = status(spark_1=serving("off"), spark_2=serving("off"))
    assert (found.mode, found.healthy, found.reasons) == ("off", False, ())
    ended = ServingContainer("gb10-serving-solo", "vllm:small", "solo", "0", False, 1, True)
    found = status(spark_1=serving("off"), spark_2=serving("off", containers=(ended,)))
    assert (found.mode, found.reasons) == ("off", ("spark-2: gb10-serving-solo ended with status 1",))


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"spark_1": serving("undecided", reasons=("strange",)), "spark_2": ALONE}, "spark-1: strange"),
        ({"spark_1": UP, "spark_2": ALONE}, "spark-1 serves for a cluster, spark-2 alone"),
        ({"spark_1": ALONE, "spark_2": ALONE}, "each of spark-1, spark-2 serves alone"),
        ({"spark_1": serving("off")}, "spark-2: gone"),
    ],
)
def test_what_is_not_clear_is_undecided(nodes: dict[str, Any], why: str) -> None:
    found = status(**nodes)
    assert (found.mode, found.reasons, found.healthy) == ("undecided", (why,), False)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"spark_1": serving("cluster"), "spark_2": serving("cluster")}, "nothing listens on spark-1 yet: it loads"),
        ({"spark_1": replace(UP, health="dead"), "spark_2": serving("cluster")}, "what serves on spark-1 is dead"),
        ({"spark_1": UP, "spark_2": serving("off")}, "nothing serves on spark-2"),
        ({"spark_1": UP}, "spark-2: gone"),
        ({"spark_1": replace(UP, models=("other",)), "spark_2": serving("cluster")}, f"it offers other, not {LARGE}"),
        ({"spark_1": replace(UP, completion=False), "spark_2": serving("cluster")}, "it completes no prompt"),
    ],
)
def test_what_serves_and_does_not_answer_says_why(nodes: dict[str, Any], why: str) -> None:
    found = status(**nodes)
    assert (found.mode, found.healthy) == ("cluster", False)
    assert why in found.reasons[0]


def test_without_a_completion_a_hanging_engine_passes() -> None:
    assert status(complete=False, spark_1=replace(UP, completion=None), spark_2=serving("cluster")).healthy


def test_rays_worker_belongs_to_the_cluster() -> None:
    helps = serving("undecided", engines=(Engine(1, "c", "member", "Ray", 1.0),), reasons=("Ray",))
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
