"""Modes of serving: their command lines, and when nodes must be restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from gb10.facts.reading.serving import Engine, NodeServing, ServingContainer
from gb10.group_data import all as defaults
from gb10.group_data.settings import ServingSettings
from gb10.operations.kit.serving import (
    EVERYWHERE,
    Plan,
    Seat,
    Verdict,
    container_name,
    launch_lines,
    run_words,
    spec_of,
    verdict,
)

LARGE, SMALL = "openai/gpt-oss-120b", "openai/gpt-oss-20b"
MODES = {"cluster": {"models": [LARGE]}, "solo": {"models": [SMALL], "image": "vllm:small", "images": ["tools:1"]}}
HEAD = Seat(0, 2, "192.168.100.11", "192.168.100.11", "enp1s0f0np0", ("rocep1s0f0", "roceP2p1s0f0"))
WORKER = replace(HEAD, rank=1, address="192.168.100.12", own_address="10.0.0.12")


def settings(modes: Any = None, **more: Any) -> ServingSettings:
    """The defaults of group_data, with modes."""
    names = ServingSettings.model_fields
    known = {name: getattr(defaults, f"serving_{name}") for name in names}
    return ServingSettings(**{**known, "modes": MODES if modes is None else modes, **more})


def test_two_sparks_get_the_docker_run_of_two_sparks() -> None:
    words = run_words(settings(), "cluster", "/data/huggingface", WORKER, "spec")
    line = " ".join(words)
    assert line.startswith("docker run --detach --pull never --name gb10-serving-cluster --label gb10.serving=cluster")
    for part in (
        "--gpus all --network host",
        "--ulimit memlock=-1",
        "--device /dev/infiniband",
        "--volume /data/huggingface/hub:/data/huggingface/hub:ro --env HF_HOME=/data/huggingface",
        "--env VLLM_HOST_IP=192.168.100.12",
        "--env NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0",
        "--env NCCL_SOCKET_IFNAME=enp1s0f0np0",
        "--env HF_HUB_OFFLINE=1",
        f"{defaults.serving_image} vllm serve {LARGE} --host 10.0.0.12 --port 8000",
        "--tensor-parallel-size 2 --nnodes 2 --node-rank 1 --master-addr 192.168.100.11",
        "--headless",
        "--gpu-memory-utilization 0.8",
    ):
        assert part in line
    assert "--headless" not in run_words(settings(), "cluster", "/data/huggingface", HEAD, "spec")


def test_a_single_spark_gets_no_rails() -> None:
    line = " ".join(run_words(settings(), "solo", "/hf", replace(HEAD, nodes=1), "spec"))
    assert f"vllm:small vllm serve {SMALL} " in line
    assert not any(word in line for word in ("infiniband", "NCCL", "--nnodes", "tensor-parallel"))


def test_a_key_stays_in_its_file() -> None:
    words = run_words(settings(env_file="/etc/vllm.env"), "solo", "/hf", HEAD, "spec")
    assert words[words.index("--env-file") + 1] == "/etc/vllm.env"


@pytest.mark.parametrize(
    ("more", "listens"),
    [
        ({}, "10.0.0.12"),
        ({"listen": "127.0.0.1"}, "127.0.0.1"),
        ({"options": ["--net=host"]}, "10.0.0.12"),
        ({"options": ["--publish", "8000:8000"]}, EVERYWHERE),
    ],
)
def test_the_api_listens_where_the_inventory_says(more: dict[str, Any], listens: str) -> None:
    words = run_words(settings(**more), "solo", "/hf", WORKER, "spec")
    assert words[words.index("--host") + 1] == listens


@pytest.mark.parametrize("own", [["-v", "/hf:/hf"], ["--volume=/hf/hub:/x"], ["--mount", "type=bind,src=/hf,dst=/hf"]])
def test_an_own_mount_of_the_cache_counts(own: list[str]) -> None:
    assert "/hf/hub:/hf/hub:ro" not in run_words(settings(options=own), "solo", "/hf", HEAD, "spec")
    assert "/hf/hub:/hf/hub:ro" in run_words(settings(options=["-e", "HF_HOME=/hf"]), "solo", "/hf", HEAD, "spec")


def test_what_an_earlier_version_started_goes_on() -> None:
    assert spec_of(settings(), "cluster", ("spark-1", "spark-2")) == "2cbc1c292d48a951"
    assert spec_of(settings(listen=EVERYWHERE), "cluster", ("spark-1", "spark-2")) != "2cbc1c292d48a951"


def test_each_mode_names_what_it_needs() -> None:
    assert settings().needs() == ((LARGE, SMALL), (defaults.serving_image, "vllm:small", "tools:1"))
    assert settings().needs(["solo"]) == ((SMALL,), ("vllm:small", "tools:1"))
    own = {"solo": {"models": [SMALL], "start": "run", "stop": "end"}}
    assert settings(own).needs() == ((SMALL,), ())  # only its launcher knows the image


@pytest.mark.parametrize(
    "wrong",
    [
        {"solo": {}},
        {"solo": {"models": [SMALL], "start": "run"}},
        {"solo": {"models": [SMALL], "colour": "blue"}},
        {"both": {"models": [SMALL]}},
        {"cluster": {"models": [LARGE], "start": {"king": "run"}, "stop": "end"}},
    ],
)
def test_contradictory_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        settings(wrong)


def test_a_launcher_finds_what_it_needs_in_its_environment() -> None:
    own = {"cluster": {"models": [LARGE], "start": "run", "stop": "end", "environment": {"WORDS": "it's"}}}
    lines = launch_lines(settings(own), "cluster", "/hf", WORKER).splitlines()
    assert {"export GB10_RANK=1", "export GB10_HEAD_ADDRESS=192.168.100.11", "export GB10_PORT=8000"} <= set(lines)
    assert "export WORDS='it'\"'\"'s'" in lines


def test_the_digest_depends_on_what_runs_not_on_time_limits() -> None:
    nodes = ("spark-1", "spark-2")
    same = [settings(), settings(load_seconds=5), settings({**MODES, "solo": {"models": [LARGE]}})]
    assert len({spec_of(each, "cluster", nodes) for each in same}) == 1
    other = [settings(image="vllm:other"), settings(arguments=[]), settings(port=9000)]
    assert len({spec_of(each, "cluster", nodes) for each in [settings(), *other]}) == 4
    assert spec_of(settings(), "cluster", nodes) != spec_of(settings(), "cluster", nodes[:1])


# Verdicts -------------------------------------------------------------------------------------------------------------

CLUSTER = Plan("cluster", ("spark-1", "spark-2"), settings())
SOLO = Plan("solo", ("spark-1",), settings())
NOTHING = Plan(None, (), settings())
OFF = NodeServing("off", (), (), (), "none", (), None, None, 1, True)


def serving(plan: Plan, health: str = "none", completion: bool | None = None, **more: Any) -> NodeServing:
    """A node that runs what a plan says."""
    mode = plan.mode or "solo"
    name = container_name(mode)
    own = ServingContainer(name, "i", mode, plan.spec, True, None, True)
    state = NodeServing(
        mode=mode,
        reasons=(),
        engines=(Engine(1, name, mode, "so", 5.0),),
        containers=(own,),
        health=health,
        models=(plan.own.name or "",) if plan.own and health == "up" else (),
        completion=completion,
        trouble=None,
        memory_available_kib=1,
        docker=True,
    )
    return replace(state, **more)


WELL = serving(CLUSTER, "up", completion=True)


def test_what_answers_as_it_should_is_left_alone() -> None:
    assert verdict(CLUSTER, {"spark-1": WELL, "spark-2": serving(CLUSTER)}) is Verdict.SERVES
    assert verdict(SOLO, {"spark-1": serving(SOLO, "up", completion=True), "spark-2": OFF}) is Verdict.SERVES
    assert verdict(SOLO, {"spark-1": serving(SOLO, "up", completion=True), "spark-2": None}) is Verdict.SERVES
    assert verdict(NOTHING, {"spark-1": OFF, "spark-2": OFF}) is Verdict.SERVES


def test_a_loading_engine_gets_its_time() -> None:
    states = {"spark-1": serving(CLUSTER), "spark-2": serving(CLUSTER)}
    assert verdict(CLUSTER, states) is Verdict.STARTING
    aged = replace(states["spark-1"].engines[0], age_seconds=901)
    assert verdict(CLUSTER, {**states, "spark-1": replace(states["spark-1"], engines=(aged,))}) is Verdict.WRONG


@pytest.mark.parametrize(
    "states",
    [
        {"spark-1": OFF, "spark-2": OFF},
        {"spark-1": WELL, "spark-2": OFF},
        {"spark-1": WELL, "spark-2": None},
        {"spark-1": replace(WELL, completion=False), "spark-2": serving(CLUSTER)},
        {"spark-1": replace(WELL, models=("another",)), "spark-2": serving(CLUSTER)},
        {"spark-1": replace(WELL, health="dead"), "spark-2": serving(CLUSTER)},
        {"spark-1": replace(WELL, containers=(replace(WELL.containers[0], spec="old"),)), "spark-2": serving(CLUSTER)},
        {"spark-1": serving(SOLO, "up", completion=True), "spark-2": OFF},
    ],
)
def test_anything_else_is_started_anew(states: dict[str, NodeServing | None]) -> None:
    assert verdict(CLUSTER, states) is Verdict.WRONG


def test_a_node_that_should_not_serve_but_does_is_wrong() -> None:
    alone = serving(SOLO, "up", completion=True)
    assert verdict(SOLO, {"spark-1": alone, "spark-2": alone}) is Verdict.WRONG
    assert verdict(NOTHING, {"spark-1": OFF, "spark-2": alone}) is Verdict.WRONG
    assert verdict(NOTHING, {"spark-1": OFF, "spark-2": replace(OFF, mode="undecided")}) is Verdict.WRONG


def test_a_worker_of_ray_belongs_to_the_cluster() -> None:
    ray = Engine(1, "node-1", "member", "it is a process of Ray", 5.0)
    helps = replace(OFF, mode="undecided", engines=(ray,))
    head = replace(WELL, containers=(), engines=(replace(WELL.engines[0], container="node-0"),))
    assert verdict(CLUSTER, {"spark-1": head, "spark-2": helps}) is Verdict.SERVES
