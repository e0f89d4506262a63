"""The mode in which a node serves, told from command lines and containers alone."""

from __future__ import annotations

import json
import shlex
import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.reading.serving import NodeServing, node_serving
from gb10.facts.serving import ServingState
from gb10.lab import vllm
from gb10.programs.serving_probe import answers, ask, classify, described, key_of, spanned, writes
from tests.unit.facts.reading import answered

# Command lines as vLLM's documentation, NVIDIA's playbooks and eugr/spark-vllm-docker have them.
LINES = {
    "vllm serve openai/gpt-oss-20b": "solo",
    "/usr/bin/python3 /usr/local/bin/vllm serve openai/gpt-oss-20b --port 8000": "solo",
    "python3 -m vllm.entrypoints.openai.api_server --model a/b": "solo",
    "python3 -u -m vllm.entrypoints.openai.api_server --model a/b --tensor-parallel-size=2": "cluster",
    "/opt/venv/bin/python3 /opt/venv/bin/vllm serve a/b -tp 2 --distributed-executor-backend ray": "cluster",
    "vllm serve a/b --tensor_parallel_size 2": "cluster",
    "vllm serve a/b -tp=2": "cluster",
    "vllm serve a/b -tp 1 --nnodes 2 --node-rank 1 --master-addr 192.168.100.11 --headless": "cluster",
    "vllm serve a/b --pipeline-parallel-size 2": "cluster",
    "vllm serve a/b --data-parallel-size 2": "cluster",
    "vllm serve a/b --tensor-parallel-size 1": "solo",
    "vllm serve a/b --max-model-len 2 --gpu-memory-utilization 0.8": "solo",
    "vllm serve a/b --served-model-name -tp --port 2": "undecided",
    "vllm serve --config /etc/vllm.yaml": "undecided",
    "vllm serve --config /etc/vllm.yaml -tp 2": "cluster",
    "vllm serve a/b -tp $(nproc)": "undecided",
    "python3 -m sglang.launch_server --model-path a/b --tp 2 --nnodes 2 --node-rank 0": "cluster",
    "python3 -m sglang.launch_server --model-path a/b": "solo",
    "/usr/lib/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/ray": "member",
    "ray::RayWorkerWrapper.execute_method": "member",
    "sleep infinity": None,
    "docker exec -d vllm_node vllm serve a/b -tp 2": None,
    "grep vllm serve": None,
    "bash -c exec": None,
    "vim vllm serve": None,
    "vllm bench serve": None,
}


@pytest.mark.parametrize(("line", "mode"), LINES.items())
def test_the_mode_follows_from_the_command_line(line: str, mode: str | None) -> None:
    found = classify(line.split(" "), {})
    assert (found[0] if found else None) == mode


def test_another_engine_is_found_by_its_pattern() -> None:
    marks = {"solo": [r"llama-server .*--port 8000$"]}
    assert classify(shlex.split("/opt/llama-server -m a.gguf --port 8000"), marks) == (
        "solo",
        "its command matches llama-server .*--port 8000$",
    )
    assert classify(shlex.split("/opt/llama-server -m a.gguf --port 8001"), marks) is None


def test_why_is_told_without_the_rest_of_the_command_line() -> None:
    command = ["a/b", "--api-key", "c4n4ry", "-tp", "2", "--nnodes", "2"]
    assert spanned(command) == ("cluster", "--tensor-parallel-size 2, --nnodes 2")
    assert key_of(0, ["vllm", "serve", *command]) == "c4n4ry"


def test_nothing_of_a_containers_environment_is_told() -> None:
    container = {
        "Name": "/theirs",
        "Config": {"Image": "vllm", "Labels": None, "Env": ["VLLM_API_KEY=c4n4ry"], "Cmd": ["--api-key", "c4n4ry"]},
        "State": {"Running": True, "ExitCode": 0},
        "HostConfig": {"DeviceRequests": [{"Count": -1}]},
    }
    assert "c4n4ry" not in json.dumps(described(container, ["*"], "/hub"))
    assert described(container, ["*"], "/hub")["gpu"]
    assert not described(container, ["vllm*"], "/hub")["gpu"]


def node(*engines: tuple[str | None, str], health: str = "none", **more: Any) -> NodeServing:
    """A node with engines, each in a container and a mode."""
    found = [
        {"pid": number, "container": container, "mode": mode, "why": "so", "age_seconds": 1.0}
        for number, (container, mode) in enumerate(engines)
    ]
    rest = {"docker": True, "containers": [], "memory_available_kib": 1, "models": [], "completion": None}
    return node_serving({"engines": found, "health": health, "trouble": None, **rest, **more})


def container(name: str, mode: str | None = None, running: bool = True, gpu: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "image": "i",
        "mode": mode,
        "spec": None,
        "running": running,
        "exit_code": None if running else 1,
        "gpu": gpu,
    }


def test_a_node_serves_in_the_one_mode_of_its_engines() -> None:
    assert node().mode == "off"
    assert node(("a", "solo")).mode == "solo"
    assert node(("a", "cluster"), ("a", "member")).mode == "cluster"
    assert node(("a", "solo"), (None, "member")).mode == "solo"  # Ray may also serve a single node


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (node(("a", "solo"), ("b", "cluster")), "different modes"),
        (node(("a", "undecided")), "container a (undecided: so)"),
        (node(("a", "member")), "container a (member: so)"),
        (node(health="up"), "no engine is known"),
        (node(containers=[container("theirs")]), "container theirs has the GPU"),
    ],
)
def test_what_cannot_be_told_is_undecided_and_says_why(found: NodeServing, why: str) -> None:
    assert found.mode == "undecided"
    assert why in found.reasons[0]


def test_containers_that_are_ours_or_without_a_gpu_puzzle_nobody() -> None:
    assert node(containers=[container("database", gpu=False)]).mode == "off"
    assert node(containers=[container("gb10-serving-solo", mode="solo")]).mode == "off"  # no engine in it yet
    ended = node(containers=[container("gb10-serving-solo", mode="solo", running=False)])
    assert (ended.mode, [one.name for one in ended.ours]) == ("off", ["gb10-serving-solo"])


def test_engines_of_others_are_told_from_ours() -> None:
    found = node(("gb10-serving-solo", "solo"), ("theirs", "solo"), containers=[container("gb10-serving-solo", "solo")])
    assert [engine.container for engine in found.foreign] == ["theirs"]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"health": "none"}, ["nothing listens on spark-1 yet: it loads"]),
        ({"health": "dead"}, ["the health of what serves on spark-1 is dead"]),
        ({"models": [], "completion": True}, ["it offers no model, not org/model"]),
        ({"completion": False, "trouble": "500"}, ["it completes no prompt: 500"]),
        ({"models": ["other"]}, ["it offers other, not org/model", "it completes no prompt: no reason is known"]),
        ({"completion": True}, []),
    ],
)
def test_what_keeps_a_server_from_serving_is_said(found: dict[str, Any], why: list[str]) -> None:
    state = node((None, "solo"), **{"health": "up", "models": ["org/model"], **found})
    assert state.wrong("spark-1", "org/model") == why


def test_any_model_will_do_where_none_is_wanted() -> None:
    state = node((None, "solo"), health="up", models=["other"], completion=None)
    assert state.wrong("spark-1", None, complete=False) == []


@pytest.mark.parametrize("answer", [None, [], {}, {"containers": [1], "engines": []}])
def test_an_answer_of_another_shape_fails_its_host_alone(answer: object) -> None:
    with pytest.raises(FactProcessError):
        ServingState().process(answered(answer))


@pytest.mark.parametrize("key", ["a\nb", "\u20ac"])
def test_a_key_that_no_header_can_hold_is_a_server_that_says_nothing(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ask(("127.0.0.1", server.getsockname()[1]), "/health", key, 1) == (1, "")


def test_a_port_at_which_nothing_listens_is_told_from_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ask(("127.0.0.1", port), "/health", None, 0.2) == (1, "")
    assert ask(("127.0.0.1", port), "/health", None, 0.2) == (0, "")


@pytest.mark.parametrize(
    ("family", "address", "open_at"),
    [
        (socket.AF_INET, "127.0.0.1", None),
        (socket.AF_INET, "127.0.0.2", None),
        (socket.AF_INET6, "::1", None),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0"),  # noqa: S104 - it is tried
        (socket.AF_INET6, "::", "::"),
    ],
)
def test_an_api_without_a_key_is_open_beyond_the_node(
    family: socket.AddressFamily, address: str, open_at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Server(ThreadingHTTPServer):
        address_family = family

    with Server((address, 0), vllm.Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = answers(server.server_address[1], "c4n4ry", 0)
        assert (found["health"], found["models"], found["open_at"]) == ("up", [""], open_at)
        monkeypatch.setenv("VLLM_API_KEY", "c4n4ry")
        found = answers(server.server_address[1], "c4n4ry", 0)
        assert (found["health"], found["models"], found["open_at"]) == ("up", [""], None)
        server.shutdown()


@pytest.mark.parametrize(
    ("source", "writable", "found"),
    [
        ("/data/huggingface", True, True),
        ("/data/huggingface/hub", True, True),
        ("/data/huggingface/hub/models--a--b", True, True),
        ("/", True, True),
        ("/data/huggingface/hub", False, False),
        ("/data/huggingface/hub2", True, False),
        ("", True, False),
    ],
)
def test_a_container_that_may_write_models_is_told(source: str, writable: bool, found: bool) -> None:
    container = {"Mounts": [{"Type": "bind", "Source": source, "RW": writable}]}
    assert writes(container, "/data/huggingface/hub") is found
