"""The lab's nodes as hosts of a pyinfra inventory."""

from __future__ import annotations

from typing import Any

from gb10.lab import serving
from gb10.lab.kube import pause
from gb10.lab.node import USER
from gb10.lab.paths import lab_name
from gb10.lab.plan import INTERFACES, NodePlan
from gb10.lab.problem import LabError
from gb10.lab.state import LabState, require
from gb10.operations.kit.operation import RefusedDeploy

Host = tuple[str, dict[str, Any]]

# No registry is reachable, so the container that checks the GPU uses the image of K3s' pods, which every node with K3s
# has, and the node's own tools.
NODE_TOOLS = [
    word for folder in ("usr", "bin", "lib", "lib64", "etc") for word in ("--volume", f"/{folder}:/{folder}:ro")
]


def groups() -> tuple[list[Host], list[Host]]:
    """Return the groups head and workers of the lab named by GB10_LAB. Raise RefusedDeploy if it is not up."""
    try:
        state = require(lab_name())
    except LabError as error:
        raise RefusedDeploy("INVENTORY_BROKEN", f"{error.what} {error.cure}") from error
    hosts = [(node.name, host_data(state, node)) for node in state.nodes]
    return hosts[:1], hosts[1:]


def host_data(state: LabState, node: NodePlan) -> dict[str, Any]:
    """Return the data of one host: SSH connection, addresses and download sources."""
    data: dict[str, Any] = {
        "ssh_hostname": node.address("management"),
        "ssh_user": USER,
        "ssh_key": str(state.key),
        "ssh_known_hosts_file": str(state.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
        "_sudo": True,
        "node_ip": node.address("management"),
        "rails": {rail: {"interface": INTERFACES[rail], "address": node.address(rail)} for rail in ("a", "b")},
        "pins_file": str(state.folder / "gb10.lock"),  # lab/inventory.py is the same for all labs
        "k3s_mirror": f"{state.mirror_url}/k3s",
        "k3s_sha256": {},  # the default digests are those of the real release
        "helm_mirror": f"{state.mirror_url}/helm",
        "chart_repository": f"{state.mirror_url}/charts",
        "validate_gpu_image": f"{pause.IMAGE}:{pause.TAG}",
        "validate_gpu_options": ["--gpus", "all", *NODE_TOOLS],
        **serving.INVENTORY,
    }
    if state.k3s_release:
        data["k3s_version"] = state.k3s_version
    return data
