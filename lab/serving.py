"""Stand-ins for the downloads that serving needs: vLLM's image and two models."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping
from typing import Any

from gb10.lab.node import CLIENTS
from gb10.lab.paths import package_folder
from gb10.lab.plan import NodePlan
from gb10.lab.shell import Docker

IMAGE = "gb10-lab/vllm:1"
CLUSTER_MODEL, SOLO_MODEL = "gb10-lab/large", "gb10-lab/small"
WEIGHTS = {CLUSTER_MODEL: 6 << 20, SOLO_MODEL: 2 << 20}  # bytes
HOME = "/data/huggingface"
MARKER = "blobs/.huggingface-shared-blobs"
FAULTS = "/run/gb10-lab"

# The image holds one file, which the node's own Python runs.
_TOOLS = [word for folder in ("usr", "bin", "lib", "lib64") for word in ("--volume", f"/{folder}:/{folder}:ro")]

# Settings of the lab's inventory that differ from group_data/all.py. The lab has no /dev/infiniband.
INVENTORY: Mapping[str, Any] = {
    "serving_modes": {"cluster": {"models": [CLUSTER_MODEL]}, "solo": {"models": [SOLO_MODEL]}},
    "serving_image": IMAGE,
    "serving_options": ["--gpus", "all", "--network", "host", "--volume", f"{FAULTS}:{FAULTS}:ro", *_TOOLS],
    "serving_rdma_options": [],
    "serving_arguments": [],
    "serving_load_seconds": 60,
    "serving_stop_seconds": 10,
    "serving_completion_seconds": 5,
}


def download(docker: Docker, node: NodePlan) -> None:
    """Put image and models on a node, as `docker pull` and `hf download` do."""
    path = f"--change 'ENV PATH=/opt/vllm:{CLIENTS}:/usr/bin:/bin'"
    _pipe(docker, node, f"docker import {path} - {IMAGE}", _image())
    _pipe(docker, node, f"mkdir -p {HOME}/hub && tar -x -C {HOME}/hub", _hub())


def _pipe(docker: Docker, node: NodePlan, command: str, content: bytes) -> None:
    """Run a command on a node with this content as its standard input."""
    text = base64.b64encode(content).decode()
    docker.inside(node.container, f"set -e; base64 -d | ( {command} )", stdin=text)


def _image() -> bytes:
    """Return the image's only layer: always the same bytes, so that all nodes have the same image."""
    return _packed({"opt/vllm/vllm": (package_folder() / "vllm.py").read_bytes()}, {})


def _hub() -> bytes:
    """Return a Hugging Face hub with both models, whose content is in the store that all models share."""
    files: dict[str, bytes] = {MARKER: b"1\n"}
    links: dict[str, str] = {}
    for name, size in WEIGHTS.items():
        folder = f"models--{name.replace('/', '--')}"
        commit = hashlib.sha1(name.encode()).hexdigest()  # noqa: S324 - as in git
        config = json.dumps({"model_type": "gb10-lab", "name": name}).encode()
        contents = {"config.json": config, "model.safetensors": random.Random(name).randbytes(size)}  # noqa: S311
        for path, content in contents.items():
            etag = hashlib.sha256(content).hexdigest()
            stored = hashlib.sha256(b"xet" + content).hexdigest()  # a Xet hash is not the content's SHA-256
            files[f"blobs/{stored[:2]}/{stored}"] = content
            links[f"{folder}/blobs/{etag}"] = f"../../blobs/{stored[:2]}/{stored}"
            links[f"{folder}/snapshots/{commit}/{path}"] = f"../../blobs/{etag}"
        listing = {path: {"size": len(content), "blob_id": "0" * 40} for path, content in contents.items()}
        files[f"{folder}/refs/main"] = commit.encode()
        files[f"{folder}/trees/{commit}.json"] = json.dumps({"format_version": 1, "files": listing}).encode()
    return _packed(files, links)


def _packed(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    """Return a tar without timestamps."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = 0o755 if path.startswith("opt/") else 0o644, len(content)
            archive.addfile(entry, io.BytesIO(content))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
