"""The measurement of the rails before a large copy."""

from __future__ import annotations

import pytest

from gb10.facts.rdma import Method, RailBandwidth, judge
from gb10.operations.copying.folder_copy import judge_rate

WAY = "enp1s0f0np0 from spark-1 to spark-2"


def rail(gbps: float | None, link_gbps: float | None = 200.0) -> RailBandwidth:
    verdict = judge(gbps, link_gbps, Method.TCP)
    return RailBandwidth("enp1s0f0np0", "198.18.1.2", Method.TCP, gbps, link_gbps, verdict, None)


@pytest.mark.parametrize(("gbps", "throttled"), [(3.0, False), (12.0, True), (25.0, True), (30.0, False)])
def test_only_the_rate_of_the_power_fault_stops_a_copy(gbps: float, throttled: bool) -> None:
    fault, text = judge_rate(rail(gbps), WAY)
    assert fault is throttled
    assert text.startswith(f"{WAY} carries {gbps:.1f} Gb/s")


def test_a_link_of_a_low_rate_is_not_throttled() -> None:
    assert judge_rate(rail(12.0, 25.0), WAY) == (False, f"{WAY} carries 12.0 Gb/s: as_expected")


@pytest.mark.parametrize("found", ["nobody listens on spark-2: no python3", rail(None)])
def test_a_failed_measurement_is_noted_and_stops_nothing(found: RailBandwidth | str) -> None:
    fault, text = judge_rate(found, WAY)
    assert not fault
    assert text.startswith(f"the bandwidth of {WAY} is not known: ")
