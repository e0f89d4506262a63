#!/usr/bin/python3
"""A stand-in for vLLM: it "loads" for a while, answers the probes, and ends when its peer ends. It computes nothing.

It runs in a container as `vllm serve MODEL ...`, with the node's Python and its standard library only. A word in FAULT
makes it misbehave; see lab/README.md.
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
PEER_SECONDS = 60  # to connect to the other nodes
BEAT_SECONDS = 0.3
LOST_SECONDS = 2.0
DYING_SECONDS = 0.5  # between the end of the engine and the end of its server

dead = threading.Event()


def main() -> None:
    """Serve until a signal or the end of a peer."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    options = parse_arguments()
    read_weights(options.model)
    threading.Thread(target=watch_faults, daemon=True).start()
    peers = connect_peers(options)
    time.sleep(LOAD_SECONDS)
    while fault() == "never":
        time.sleep(0.1)
    for peer in peers:
        threading.Thread(target=watch_peer, args=(peer,), daemon=True).start()
    if not options.headless:
        Api.name = options.served_model_name or options.model
        server = ThreadingHTTPServer((options.host, options.port), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"INFO: Application startup complete, port {options.port}.", flush=True)
    dead.wait()
    time.sleep(DYING_SECONDS)
    end("EngineDeadError: EngineCore encountered an issue: a peer is gone.")


def parse_arguments() -> argparse.Namespace:
    """Parse the options that matter here and ignore vLLM's others."""
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - vLLM's default
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--nnodes", type=int, default=1)
    parser.add_argument("--node-rank", type=int, default=0)
    parser.add_argument("--master-addr", default="127.0.0.1")
    parser.add_argument("--master-port", type=int, default=29501)
    parser.add_argument("--headless", action="store_true")
    options, _ = parser.parse_known_args()
    if options.tensor_parallel_size > options.nnodes:
        end(f"ValueError: World size ({options.tensor_parallel_size}) is larger than the number of available GPUs (1)")
    return options


def read_weights(model: str) -> None:
    """Read every file of the model through the hub's links. Exit as vLLM does if one is missing."""
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


def connect_peers(options: argparse.Namespace) -> list[socket.socket]:
    """Connect the first node with all others. Return this node's connections."""
    deadline = time.monotonic() + PEER_SECONDS
    address = (options.master_addr, options.master_port)
    if options.nnodes == 1:
        return []
    if options.node_rank:
        while time.monotonic() < deadline:
            try:
                return [socket.create_connection(address, timeout=5)]
            except OSError:
                time.sleep(0.1)
        end(f"torch.distributed.DistNetworkError: {options.master_addr}:{options.master_port} does not answer.")
    with socket.create_server(address) as server:
        peers: list[socket.socket] = []
        while len(peers) < options.nnodes - 1:
            server.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                peers.append(server.accept()[0])
            except OSError:
                end(f"torch.distributed.DistStoreError: {len(peers) + 1}/{options.nnodes} clients joined.")
    return peers


def watch_peer(peer: socket.socket) -> None:
    """Send heartbeats to a peer and set `dead` when its heartbeats stop."""
    threading.Thread(target=send_heartbeats, args=(peer,), daemon=True).start()
    peer.settimeout(LOST_SECONDS + LOAD_SECONDS)
    try:
        while peer.recv(16):
            peer.settimeout(LOST_SECONDS)
    except OSError:
        pass
    dead.set()


def send_heartbeats(peer: socket.socket) -> None:
    try:
        while True:
            peer.sendall(b".")
            time.sleep(BEAT_SECONDS)
    except OSError:
        dead.set()


def fault() -> str:
    """Return the word in FAULT, or ""."""
    try:
        return FAULT.read_text().strip()
    except OSError:
        return ""


def watch_faults() -> None:
    while fault() != "crash":
        time.sleep(0.1)
    end("RuntimeError: CUDA error: an illegal memory access was encountered")


def end(why: str) -> NoReturn:
    """Print the reason and exit with status 1."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


class Api(BaseHTTPRequestHandler):
    """The three endpoints that gb10 uses."""

    name = ""

    def do_GET(self) -> None:
        """Answer for health and the model."""
        if self.path == "/health":
            self.answer(503 if dead.is_set() or fault() == "dead" else 200, b"")
        elif not self.is_authorized():
            self.answer(401, b"")
        elif self.path == "/v1/models":
            self.answer_json({"object": "list", "data": [{"id": self.name, "object": "model", "owned_by": "vllm"}]})
        else:
            self.answer(404, b"")

    def do_POST(self) -> None:
        """Answer with a completion, always the same."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        while fault() == "hang":
            time.sleep(0.1)
        if not self.is_authorized():
            self.answer(401, b"")
            return
        if self.path != "/v1/completions" or body.get("model") != self.name:
            self.answer(404, b"")
            return
        choice = {"index": 0, "text": "2", "finish_reason": "length"}
        self.answer_json({"object": "text_completion", "model": self.name, "choices": [choice]})

    def is_authorized(self) -> bool:
        """Return True if the request has the API key, or if there is no key."""
        key = os.environ.get("VLLM_API_KEY")
        return not key or self.headers.get("Authorization") == f"Bearer {key}"

    def answer_json(self, document: dict[str, Any]) -> None:
        """Answer with a JSON document."""
        self.answer(200, json.dumps(document).encode())

    def answer(self, status: int, content: bytes) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - name from the base class
        """Do nothing."""


if __name__ == "__main__":
    main()
