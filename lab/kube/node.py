"""The Node object that a node registers."""

from __future__ import annotations

import os
import platform
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from gb10.lab.kube.errors import StartError
from gb10.lab.kube.objects import Obj, now

CONTAINERD = "containerd://2.1.5-k3s1"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


@dataclass(frozen=True)
class NodeDescription:
    """A node to register. `addresses` has its management address first, then others from node-ip."""

    name: str
    addresses: tuple[str, ...]
    version: str
    runtime: str
    roles: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Obj, ...] = ()

    def own_labels(self) -> dict[str, str]:
        """Return the labels that the kubelet itself maintains."""
        machine = MACHINES.get(platform.machine(), platform.machine())
        roles = {f"node-role.kubernetes.io/{role}": "true" for role in self.roles}
        return {
            "beta.kubernetes.io/arch": machine,
            "beta.kubernetes.io/instance-type": "k3s",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": machine,
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "k3s",
            **roles,
        }

    def annotations(self) -> dict[str, str]:
        return {"k3s.io/hostname": self.name, "k3s.io/internal-ip": ",".join(self.addresses)}

    def registration(self) -> Obj:
        """Return the Node to create. As with K3s, labels and taints from the settings apply only at creation."""
        return {
            "metadata": {
                "name": self.name,
                "labels": {**self.labels, **self.own_labels()},
                "annotations": self.annotations(),
            },
            "spec": {"providerID": f"k3s://{self.name}", **({"taints": list(self.taints)} if self.taints else {})},
            "status": self.status(None),
        }

    def status(self, trouble: str | None) -> Obj:
        """Return the node's status. `trouble` is the error of its container runtime, or None."""
        resources = _resources()
        return {
            "addresses": [
                *({"type": "InternalIP", "address": address} for address in self.addresses),
                {"type": "Hostname", "address": self.name},
            ],
            "allocatable": resources,
            "capacity": resources,
            "conditions": _conditions(trouble),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": self._info(),
        }

    def _info(self) -> Obj:
        return {
            "architecture": MACHINES.get(platform.machine(), platform.machine()),
            "bootID": _first_line("/proc/sys/kernel/random/boot_id"),
            "containerRuntimeVersion": self.runtime,
            "kernelVersion": platform.release(),
            "kubeProxyVersion": self.version,
            "kubeletVersion": self.version,
            "machineID": _first_line("/etc/machine-id"),
            "operatingSystem": "linux",
            "osImage": _os_image(),
            "systemUUID": _first_line("/etc/machine-id"),
        }


def _conditions(trouble: str | None) -> list[Obj]:
    entries = [
        {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
        for kind, status, reason, message in HEALTHY
    ]
    if trouble:
        entries[-1] |= {
            "status": "False",
            "reason": "KubeletNotReady",
            "message": f"container runtime is down: {trouble}",
        }
    return entries


def _resources() -> dict[str, str]:
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    memory = f"{found[1]}Ki" if found else "0"
    return {"cpu": str(os.cpu_count() or 1), "memory": memory, "pods": "110", "ephemeral-storage": "0"}


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def default_address() -> str:
    """Return the address of the interface with the default route. Raise StartError if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.18.255.254", 9))  # sends nothing: connecting a datagram socket only looks up a route
        except OSError as error:
            raise StartError("unable to select an IP from default routes.") from error
        return str(probe.getsockname()[0])
