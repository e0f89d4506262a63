"""Paths of K3s' files. GB10_LAB_ROOT moves them below another folder, for tests without root."""

from __future__ import annotations

import os
from pathlib import Path

_MOVED = ("/etc/rancher", "/var/lib/rancher", "/var/lib/kubelet", "/run")


def rooted(path: str | Path) -> Path:
    """Return the path below GB10_LAB_ROOT. Paths that do not belong to K3s stay as they are."""
    root = os.environ.get("GB10_LAB_ROOT")
    if root and any(Path(path).is_relative_to(moved) for moved in _MOVED):
        return Path(root) / Path(path).relative_to("/")
    return Path(path)


CONFIG = "/etc/rancher/k3s/config.yaml"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105 - a path, not a password
NODE_ID = "/etc/rancher/node/id"
DATA_DIR = "/var/lib/rancher/k3s"
KUBELET_DIR = "/var/lib/kubelet"
RUN_DIR = "/run/k3s"
FLANNEL_DIR = "/run/flannel"
FAULTS = "/run/gb10-lab/kube-faults.json"


def write_secret(path: Path, content: str, mode: int = 0o600) -> None:
    """Replace a file in one step. It is never readable by more users than its mode allows."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    new.chmod(mode)
    new.rename(path)
