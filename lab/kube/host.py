"""Traces of K3s on a machine beside its files: interfaces, firewall chains and a mount for each pod.

They have no function here, but a teardown must remove them. They are created only on lab nodes, as root, and left out
if the kernel refuses them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from gb10.lab.kube import config, paths
from gb10.lab.kube.objects import Obj, uid

_TRACES = (
    ["ip", "link", "add", "cni0", "type", "bridge"],
    ["ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "8472"],
    ["iptables", "-w", "-N", "KUBE-FIREWALL"],
    ["iptables", "-w", "-t", "nat", "-N", "FLANNEL-POSTRTG"],
)
_VOLUME = "volumes/kubernetes.io~projected/kube-api-access"


def _is_node() -> bool:
    return os.geteuid() == 0 and "GB10_LAB_ROOT" not in os.environ


def _try(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def prepare() -> None:
    """Create the folders, interfaces and chains. Raise StartError if registries.yaml is broken."""
    registries = paths.rooted(paths.REGISTRIES)
    if registries.exists():
        config.read_yaml(registries)
    for folder in (paths.RUN_DIR, paths.FLANNEL_DIR, _pods_folder()):
        paths.rooted(folder).mkdir(parents=True, exist_ok=True)
    if _is_node():
        for command in _TRACES:
            _try(command)


def _pods_folder() -> Path:
    return paths.rooted(paths.KUBELET_DIR) / "pods"


def keep_pod_folders(pods: list[Obj]) -> None:
    """Create a folder with a mounted tmpfs for each pod, and remove the folders of deleted pods."""
    present = {folder.name for folder in _pods_folder().iterdir()}
    wanted = set(map(uid, pods))
    for gone in present - wanted:
        volume = _pods_folder() / gone / _VOLUME
        if volume.is_mount():
            _try(["umount", str(volume)])
        if not _mounts_below(_pods_folder() / gone):  # like the kubelet, never delete through a mount
            shutil.rmtree(_pods_folder() / gone, ignore_errors=True)
    for new in wanted - present:
        volume = _pods_folder() / new / _VOLUME
        volume.mkdir(mode=0o750, parents=True)
        if _is_node():
            _try(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0750", "tmpfs", str(volume)])


def _mounts_below(folder: Path) -> bool:
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return any(Path(mount).is_relative_to(folder) for mount in mounts)
