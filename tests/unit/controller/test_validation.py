"""The checks that a status answers, and what comes of all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.controller.cluster.status_model import ClusterStatus
from gb10.controller.cluster.validate import CHECKS, Check, Validation, judge, ring, summed, unproven
from gb10.controller.errors import CATALOGUE, Gb10Error
from gb10.controller.inventory import Inventory
from tests.unit.controller.documented import documentation
from tests.unit.controller.hosts import saying
from tests.unit.controller.two_nodes import (
    BOTH,
    GPU_OPERATOR,
    HOSTS,
    INVENTORY,
    WITH_GPU,
    connectx7,
    gpu,
    install,
    node,
    status,
    up,
)


def checks(found: ClusterStatus, inventory: Inventory = INVENTORY) -> dict[tuple[str, str | None], Check]:
    return {(check.check, check.node): check for check in judge(found, inventory, inventory.hosts)}


def said(
    found: ClusterStatus, name: str, node: str | None = "spark-2", inventory: Inventory = INVENTORY
) -> tuple[str, str]:
    check = checks(found, inventory)[name, node]
    assert (check.code is not None) == (check.outcome == "fail")
    assert check.code is None or check.code in CATALOGUE
    return check.outcome, check.reason


def with_hosts(**other: Any) -> Inventory:
    return Inventory("i", tuple(saying(host, **other) for host in INVENTORY.hosts))


def test_what_is_well_passes_with_what_was_found() -> None:
    found = status(BOTH, WITH_GPU, cluster=GPU_OPERATOR)
    assert said(found, "reachable") == ("pass", "it answers")
    assert said(found, "k3s") == ("pass", "Ready, v1.36.4+k3s1")
    assert said(found, "gpu-operator", None) == ("pass", "v1.2.3, 2 of 2 pods well")
    assert said(found, "gpu-allocatable") == ("pass", "1 nvidia.com/gpu")
    assert said(found, "rails") == ("pass", "a up with 200 Gb/s, MTU 9000; b up with 200 Gb/s, MTU 9000")


def test_what_is_absent_is_skipped_and_never_passed() -> None:
    found = status(connectx7=dict.fromkeys(HOSTS))
    assert said(found, "k3s") == ("skip", "K3s is not installed")
    assert said(found, "gpu-operator", None) == ("skip", "K3s is not installed")
    assert said(found, "gpu-allocatable") == ("skip", "the operator that offers it is not installed")
    assert said(found, "rails") == ("skip", "there is no ConnectX-7")
    assert said(up(), "network-operator", None) == ("skip", "it is not installed")
    assert said(up(inventory=with_hosts(rails={})), "rails", inventory=with_hosts(rails={})) == (
        "skip",
        "the inventory names no rails",
    )
    assert {check.outcome for check in checks(found).values()} == {"skip", "pass"}


def test_an_operator_that_the_inventory_does_not_want_is_no_check() -> None:
    unwanted = with_hosts(gpu_operator_enabled=False, network_operator_enabled=False)
    assert not {name for name, _ in checks(up(), unwanted)} & {"gpu-operator", "network-operator", "gpu-allocatable"}
    assert said(status(BOTH, WITH_GPU, cluster=GPU_OPERATOR), "gpu-operator", None, unwanted)[0] == "pass"


def test_what_is_not_well_fails_with_the_reason() -> None:
    away = Gb10Error("NODE_UNREACHABLE", host="spark-2", reason="no route")
    gone = status(BOTH, [WITH_GPU[0], node("spark-2", ready=False)], errors=(away,), answering=("Spark-1",))
    assert said(gone, "reachable") == ("fail", "spark-2 does not answer: no route")
    assert ("rails", "spark-2") not in checks(gone)
    assert said(gone, "k3s") == ("fail", "it is not Ready: no reason given")
    assert said(status(BOTH, [node("spark-1")]), "k3s") == ("fail", "it is no node of the cluster")
    assert said(status(BOTH), "k3s") == ("fail", "no API server answers")
    assert said(status({"Spark-1": install("server")}), "k3s") == ("fail", "no API server answers")
    without = status(BOTH, [WITH_GPU[0], node("spark-2")], cluster=GPU_OPERATOR)
    assert said(without, "gpu-allocatable") == ("fail", "it offers no nvidia.com/gpu")
    assert said(without, "gpu-allocatable", "Spark-1")[0] == "pass"
    assert said(without, "gpu-operator", None) == ("fail", "spark-2 offers no nvidia.com/gpu")


def test_rails_fail_also_for_what_only_two_nodes_together_show() -> None:
    down = up(connectx7={"spark-2": connectx7("spark-2", {"state": "DOWN", "physical_state": None})})
    assert said(down, "rails") == ("fail", "rail a of spark-2 (enp1s0f0np0) is down: DOWN")
    mismatch = up(connectx7={"spark-2": connectx7("spark-2", {"mtu_bytes": 1500}, {"mtu_bytes": 1500})})
    assert said(mismatch, "rails")[1] == (
        "rail a has MTU 9000 on Spark-1 and 1500 on spark-2; rail b has MTU 9000 on Spark-1 and 1500 on spark-2"
    )
    assert said(mismatch, "rails", "Spark-1")[0] == "pass"


def test_each_node_is_measured_towards_the_next_one_that_has_rails() -> None:
    assert ring(up(), INVENTORY, HOSTS) == {"Spark-1": "spark-2", "spark-2": "Spark-1"}
    assert ring(up(), INVENTORY, ["spark-2"]) == {"spark-2": "Spark-1"}
    assert ring(up(connectx7={"spark-2": None}), INVENTORY, HOSTS) == {}
    assert ring(up(), with_hosts(rails={}), HOSTS) == {}


outcomes = st.sampled_from(["pass", "fail", "skip"])
some_checks = st.lists(
    st.builds(
        Check,
        check=st.sampled_from(list(CHECKS)),
        node=st.sampled_from([*HOSTS, None]),
        outcome=outcomes,
        reason=st.text(),
    )
)


@given(some_checks)
def test_a_skip_is_never_a_pass_and_a_failure_beats_all(found: list[Check]) -> None:
    validation = summed(found, HOSTS)
    every = {check.outcome for check in found}
    assert (validation.outcome == "pass") == (every == {"pass"}) == (unproven(validation) is None)
    assert (validation.outcome == "fail") == ("fail" in every)
    assert sorted(map(str, validation.checks)) == sorted(map(str, found))
    assert Validation.model_validate_json(validation.model_dump_json()) == validation


@pytest.mark.parametrize(("outcome", "code"), [("fail", "VALIDATION_FAILED"), ("skip", "VALIDATION_INCOMPLETE")])
def test_the_error_names_the_checks(outcome: Any, code: str) -> None:
    error = unproven(summed([Check(check="rails", node="spark-2", outcome=outcome, reason="")], HOSTS))
    assert error
    assert (error.code, int(error.status)) == (code, 5)
    assert "rails on spark-2" in error.summary


def test_a_gpu_that_is_ill_is_for_the_container_to_find() -> None:
    ill = up(gpu={"spark-2": gpu(devices=(), trouble="No devices were found")})
    assert not any(check.outcome == "fail" for check in checks(ill).values())


def test_every_check_and_field_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "status.md").read_text()
    assert documentation(Validation) in text, "paste what tests/unit/controller/documented.py prints"
    for name in CHECKS:
        assert f"| `{name}` |" in text
