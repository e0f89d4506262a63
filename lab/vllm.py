#!/usr/bin/python3
"""Stand-in for vLLM: it "loads" for a while, answers the probes, and dies with its peer. It computes nothing.

Run in a container as `vllm serve MODEL ...`, by the Python of the node and its standard library alone. A word in
FAULT makes it misbehave; see lab/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

FAULT = Path("/run/gb10-lab/vllm")
LOAD_SECONDS = float(os.environ.get("GB10_LAB_LOAD_SECONDS", "2.5"))
PEER_SECONDS = 60  # to meet the others
BEAT_SECONDS = 0.3
LOST_SECONDS = 2.0
DYING_SECONDS = 0.5  # between the death of an engine and the end of its server

dead = threading.Event()


def main() -> None:
    """Serve until a signal, or the end of a peer."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    told = arguments()
    weights(told.model)
    threading.Thread(target=watch_faults, daemon=True).start()
    peers = meet(told)
    time.sleep(LOAD_SECONDS)
    while fault() == "never":
        time.sleep(0.1)
    for peer in peers:
        threading.Thread(target=keep, args=(peer,), daemon=True).start()
    if not told.headless:
        Api.name = told.served_model_name or told.model
        server = ThreadingHTTPServer((told.host, told.port), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"INFO: Application startup complete, port {told.port}.", flush=True)
    dead.wait()
    time.sleep(DYING_SECONDS)
    end("EngineDeadError: EngineCore encountered an issue: a peer is gone.")


def arguments() -> argparse.Namespace:
    """The options that matter here. All others of vLLM are taken and forgotten."""
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - as vLLM does it
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--nnodes", type=int, default=1)
    parser.add_argument("--node-rank", type=int, default=0)
    parser.add_argument("--master-addr", default="127.0.0.1")
    parser.add_argument("--master-port", type=int, default=29501)
    parser.add_argument("--headless", action="store_true")
    told, _ = parser.parse_known_args()
    if told.tensor_parallel_size > told.nnodes:
        end(f"ValueError: World size ({told.tensor_parallel_size}) is larger than the number of available GPUs (1)")
    return told


def weights(model: str) -> None:
    """Read every file of the model, through all links of the hub; end as vLLM does where one is not there."""
    hub = Path(os.environ.get("HF_HOME", "/root/.cache/huggingface")) / "hub"
    snapshots = hub / f"models--{model.replace('/', '--')}" / "snapshots"
    files = [path for path in snapshots.rglob("*") if not path.is_dir()]
    if not files:
        end(f"OSError: We couldn't connect to 'https://huggingface.co' to load the files, and {model} is not in {hub}.")
    for path in files:
        try:
            path.read_bytes()
        except OSError as error:
            end(f"OSError: {model}: {error}")


def meet(told: argparse.Namespace) -> list[socket.socket]:
    """Meet the other nodes at the first one; return the connections to them."""
    deadline = time.monotonic() + PEER_SECONDS
    if told.nnodes == 1:
        return []
    if told.node_rank:
        while time.monotonic() < deadline:
            try:
                return [socket.create_connection((told.master_addr, told.master_port), timeout=5)]
            except OSError:
                time.sleep(0.1)
        end(f"torch.distributed.DistNetworkError: {told.master_addr}:{told.master_port} does not answer.")
    with socket.create_server((told.master_addr, told.master_port)) as server:
        peers: list[socket.socket] = []
        while len(peers) < told.nnodes - 1:
            server.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                peers.append(server.accept()[0])
            except OSError:
                end(f"torch.distributed.DistStoreError: {len(peers) + 1}/{told.nnodes} clients joined.")
    return peers


def keep(peer: socket.socket) -> None:
    """Tell a peer again and again that we live, and die with it."""
    threading.Thread(target=beat, args=(peer,), daemon=True).start()
    peer.settimeout(LOST_SECONDS + LOAD_SECONDS)
    try:
        while peer.recv(16):
            peer.settimeout(LOST_SECONDS)
    except OSError:
        pass
    dead.set()


def beat(peer: socket.socket) -> None:
    try:
        while True:
            peer.sendall(b".")
            time.sleep(BEAT_SECONDS)
    except OSError:
        dead.set()


def fault() -> str:
    """The word in FAULT, or nothing."""
    try:
        return FAULT.read_text().strip()
    except OSError:
        return ""


def watch_faults() -> None:
    while fault() != "crash":
        time.sleep(0.1)
    end("RuntimeError: CUDA error: an illegal memory access was encountered")


def end(why: str) -> NoReturn:
    """End as a crash does."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


class Api(BaseHTTPRequestHandler):
    """The three answers that are asked for, and a 404."""

    name = ""

    def do_GET(self) -> None:
        """Health, and the model."""
        if self.path == "/health":
            self.answer(503 if dead.is_set() or fault() == "dead" else 200, b"")
        elif not self.may():
            self.answer(401, b"")
        elif self.path == "/v1/models":
            self.answer_json({"object": "list", "data": [{"id": self.name, "object": "model", "owned_by": "vllm"}]})
        else:
            self.answer(404, b"")

    def do_POST(self) -> None:
        """A completion, always the same."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        while fault() == "hang":
            time.sleep(0.1)
        if not self.may():
            self.answer(401, b"")
            return
        if self.path != "/v1/completions" or body.get("model") != self.name:
            self.answer(404, b"")
            return
        choice = {"index": 0, "text": "2", "finish_reason": "length"}
        self.answer_json({"object": "text_completion", "model": self.name, "choices": [choice]})

    def may(self) -> bool:
        """Whether the key that was given is shown, or none was given."""
        key = os.environ.get("VLLM_API_KEY")
        return not key or self.headers.get("Authorization") == f"Bearer {key}"

    def answer_json(self, document: dict[str, Any]) -> None:
        """Answer with a document."""
        self.answer(200, json.dumps(document).encode())

    def answer(self, status: int, content: bytes) -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class has it
        """Say nothing."""


if __name__ == "__main__":
    main()
