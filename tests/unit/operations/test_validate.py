"""Checks of nodes: containers, and the verdict on a measurement."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.facts.rdma import Method, RailBandwidth, Verdict
from gb10.operations.kit.peers import LINE_CHARACTERS, last_words
from gb10.operations.kit.reports import Check
from gb10.operations.validate import container_run, judged, reduced

RAIL = Check("rail-bandwidth", "spark-1", "skip", "", peer="spark-2", rail="a")
NODES = ("spark-1", "spark-2")


def rail(measured: float | None, link: float | None, verdict: Verdict, trouble: str | None = None) -> RailBandwidth:
    return RailBandwidth("enp1s0f0np0", "192.168.100.12", Method.RDMA, measured, link, verdict, trouble)


@pytest.mark.parametrize(
    ("found", "outcome", "code", "words"),
    [
        (rail(96.4, 200, Verdict.AS_EXPECTED), "pass", None, "96.4 Gb/s by ib_write_bw, the link says 200"),
        (rail(13.1, 200, Verdict.THROTTLED), "fail", "RAIL_THROTTLED", "throttled"),
        (rail(40.0, 200, Verdict.TOO_SLOW), "fail", "RAIL_SLOW", "too slow"),
        (rail(40.0, None, Verdict.UNKNOWN), "skip", None, "nothing to compare with"),
        (rail(None, 200, Verdict.UNKNOWN, "Connection refused"), "fail", "RAIL_SLOW", "Connection refused"),
        (rail(None, 200, Verdict.UNKNOWN), "fail", "RAIL_SLOW", "nothing was measured"),
        (replace(rail(40.0, 200, Verdict.TOO_SLOW), note="no MR"), "fail", "RAIL_SLOW", "by ib_write_bw (no MR), the"),
        ("nobody listens on spark-2", "fail", "RAIL_SLOW", "nobody listens on spark-2"),
    ],
)
def test_only_a_rate_as_expected_passes(found: RailBandwidth | str, outcome: str, code: str | None, words: str) -> None:
    check = judged(found, RAIL)
    assert (check.outcome, check.code) == (outcome, code)
    assert words in check.reason


def test_an_all_reduce_passes_only_at_the_expected_rate() -> None:
    def outcome(rate: float, floor: float) -> str:
        said = f"NCCL version 2.28\n{json.dumps({'busbw_gbps': rate, 'megabytes': 128, 'ranks': 2})}\n"
        return reduced(NODES, [(True, said), (True, "")], floor, RAIL).outcome

    assert outcome(120.0, 80.0) == "pass"
    assert outcome(24.0, 80.0) == "fail"


def test_an_all_reduce_that_fails_says_where_and_why() -> None:
    check = reduced(NODES, [(True, "{}"), (False, "a\nb\nno CUDA device\n")], 80.0, RAIL)
    assert (check.outcome, check.code, check.reason) == ("fail", "NCCL_FAILED", "spark-2: a; b; no CUDA device")
    for said in ("", "no rate", "[]", '{"busbw_gbps": null}', "{}"):
        check = reduced(NODES, [(True, said), (True, "")], 80.0, RAIL)
        assert (check.outcome, check.code) == ("fail", "NCCL_FAILED")


def test_a_container_is_bounded_and_removed_by_the_node_itself() -> None:
    run = container_run("gb10-validate-1", "cuda:13", ["--gpus", "all"], ["nvidia-smi", "-L"], 60).job["text"]
    assert "-p RuntimeMaxSec=60" in run
    assert "docker rm -f gb10-validate-1" in run
    assert run.endswith("docker run --rm --name gb10-validate-1 --gpus all --entrypoint nvidia-smi cuda:13 -L 2>&1")


def test_a_program_for_a_container_is_on_no_command_line() -> None:
    launch = container_run("n", "image", [], ["python3", "-"], 60, program="print('canary')")
    assert "canary" not in launch.job["text"]
    assert "docker run --rm --interactive" in launch.job["text"]
    assert launch.job["variables"] == {"program": "print('canary')"}


@given(st.lists(st.text(min_size=1).filter(lambda word: "\0" not in word), min_size=1))
def test_any_command_reaches_a_container_unchanged(command: list[str]) -> None:
    words = shlex.split(container_run("n", "image", [], command, 60).job["text"])
    after = words[words.index("--entrypoint") + 1 : -1]
    # systemd turns $$ into $
    assert [word.replace("$$", "$") for word in (after[0], *after[2:])] == command


@given(st.text())
def test_the_end_of_any_output_fits_one_line(said: str) -> None:
    words = last_words(said)
    assert len(words) <= LINE_CHARACTERS
    assert len(words.splitlines()) <= 1
