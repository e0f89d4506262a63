"""The demands of the gate and their overrides."""

from __future__ import annotations

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.gate import DEMANDS, Demand, check_demands, check_overrides, overridden

MISSING = Demand("backup", False, "proven on no keeper", remedy="gb10 backup spark-2")
THERE = Demand("models", True, "5 models whole on spark-1")


@pytest.mark.parametrize("name", DEMANDS)
def test_each_missing_proof_keeps_the_gate_closed(name: str) -> None:
    with pytest.raises(Gb10Error, match=f"{name}: not there") as refused:
        check_demands([THERE, Demand(name, False, "not there")], "spark-2")
    assert refused.value.code == "GATE_CLOSED"


def test_an_override_counts_for_its_own_proof() -> None:
    demands = overridden([THERE, MISSING, Demand("solo", False, "off")], {"backup": "it is empty", "models": "never"})
    with pytest.raises(Gb10Error, match="solo"):
        check_demands(demands, "spark-2")
    assert demands[1].override == "it is empty"
    assert demands[0].override is None  # a proof needs no override


def test_an_override_needs_a_known_name_and_a_reason() -> None:
    assert check_overrides(["backup"], " it is empty ") == {"backup": "it is empty"}
    assert check_overrides([], None) == {}
    with pytest.raises(Gb10Error, match="--reason"):
        check_overrides(["backup"], "  ")
    with pytest.raises(Gb10Error, match="choose from"):
        check_overrides(["everything"], "why not")
