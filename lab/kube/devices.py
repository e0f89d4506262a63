"""What a node's own tools say of its devices: the control plane cannot look into the other machines."""

from __future__ import annotations

import json
import subprocess

from gb10.lab.kube.objects import Obj, notes

ANNOTATION = "gb10.lab/devices"


def found() -> str:
    """The GPUs and the RDMA interfaces of this machine, as the value of an annotation: {"gpus": 1, "nics": [...]}."""
    gpus = sum(line.startswith("GPU ") for line in _output("nvidia-smi", "-L").splitlines())
    try:
        links = json.loads(_output("rdma", "-j", "link") or "[]")
    except ValueError:
        links = []
    return json.dumps({"gpus": gpus, "nics": sorted(link["netdev"] for link in links if "netdev" in link)})


def of_node(node: Obj) -> tuple[int, list[str]]:
    """Given a Node, return how many GPUs it has, and its RDMA interfaces."""
    known: Obj = json.loads(notes(node).get(ANNOTATION) or "{}")
    return int(known.get("gpus", 0)), list(known.get("nics", []))


def _output(*command: str) -> str:
    """What a tool prints; nothing where it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
