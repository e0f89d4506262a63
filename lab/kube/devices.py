"""A node's devices according to its own tools, as the control plane cannot inspect other machines."""

from __future__ import annotations

import json
import subprocess

from gb10.lab.kube.objects import Obj, annotations_of

ANNOTATION = "gb10.lab/devices"


def found() -> str:
    """Return this machine's GPUs and RDMA interfaces as an annotation value: {"gpus": 1, "nics": [...]}."""
    gpus = sum(line.startswith("GPU ") for line in _output("nvidia-smi", "-L").splitlines())
    try:
        links = json.loads(_output("rdma", "-j", "link") or "[]")
    except ValueError:
        links = []
    return json.dumps({"gpus": gpus, "nics": sorted(link["netdev"] for link in links if "netdev" in link)})


def of_node(node: Obj) -> tuple[int, list[str]]:
    """Return the number of GPUs and the RDMA interfaces of a Node."""
    known: Obj = json.loads(annotations_of(node).get(ANNOTATION) or "{}")
    return int(known.get("gpus", 0)), list(known.get("nics", []))


def _output(*command: str) -> str:
    """Return a tool's output, or "" if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
