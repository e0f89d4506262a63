"""The nodes that an inventory names, without connecting to them.

pyinfra itself loads the inventory, in a process of its own (its import patches the whole process), so that a host, a
group or a value means here what it means in the run.
"""

from __future__ import annotations

import glob
import json
import os
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.run.child import Child
from gb10.group_data import all as defaults
from gb10.operations.kit.known_hosts import host_name

LOAD_SECONDS = 60  # an inventory may ask a database or a cloud


@dataclass(frozen=True)
class InventoryHost:
    """What the controller needs to know of a host. `address` and `port` say where its sshd listens."""

    name: str
    groups: tuple[str, ...] = ()
    address: str = ""
    port: int = 22
    user: str | None = None
    key: str | None = None
    known_hosts: str | None = None  # file of host keys, where it is not ssh's own
    ssh_config: str | None = None  # likewise
    node_name: str = ""  # its name in Kubernetes
    k3s_version: str | None = None  # wanted, where the inventory or its group data say
    rails: dict[str, str] = field(default_factory=dict)  # rail -> its network interface
    gpu_operator: bool = True  # whether it is to be in the cluster
    network_operator: bool = True
    data: dict[str, Any] = field(default_factory=dict)  # what else the controller asks for: see `setting`

    def setting(self, key: str) -> Any:
        """Given a key of group_data/all.py that the probe reads, return what the inventory says, or the default."""
        found = self.data.get(key)
        return getattr(defaults, key) if found is None else found

    @property
    def hub(self) -> str:
        """The folder of its Hugging Face cache that holds the repositories."""
        return f"{self.setting('node_huggingface_home')}/hub"

    @property
    def endpoint(self) -> str:
        """What tells one machine from another for a lock: "198.18.0.11:22"."""
        return f"{self.address}:{self.port}"

    @property
    def ssh(self) -> str:
        """The ssh command that leads to the host, to be typed by a person."""
        options = ["-p", str(self.port)] if self.port != 22 else []
        options += ["-F", self.ssh_config] if self.ssh_config else []
        options += ["-i", self.key] if self.key else []
        options += ["-o", f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else []
        return shlex.join(["ssh", *options, f"{self.user}@{self.address}" if self.user else self.address])

    def details(self) -> dict[str, str]:
        """What error texts may say about the host."""
        where = ["-f", self.known_hosts] if self.known_hosts else []
        forget = shlex.join(["ssh-keygen", "-R", host_name(self.address, self.port), *where])
        return {"host": self.name, "ssh": f"{self.ssh} true", "ssh_base": self.ssh, "ssh_forget": forget}


@dataclass(frozen=True)
class Inventory:
    """The hosts of an inventory in its order."""

    source: str
    hosts: tuple[InventoryHost, ...] = field(default_factory=tuple)

    def group(self, name: str) -> tuple[InventoryHost, ...]:
        """Hosts of a group; none when there is no such group."""
        return tuple(host for host in self.hosts if name in host.groups)

    def host(self, name: str) -> InventoryHost:
        """Given a name, return that host. Raise KeyError if there is none."""
        return next(host for host in self.hosts if host.name == name)

    @property
    def head(self) -> InventoryHost:
        """The head of the cluster. Raise INVENTORY_BROKEN unless the group `head` has one host."""
        heads = self.group("head")
        if len(heads) != 1:
            raise Gb10Error(
                "INVENTORY_BROKEN", inventory=self.source, reason=f"group head has {len(heads)} hosts, not one"
            )
        return heads[0]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts)

    def select(self, limit: Iterable[str]) -> tuple[InventoryHost, ...]:
        """Given what --limit says, return those hosts: a group's, else those whose name matches; all without a limit.

        Raise HOST_UNKNOWN where a pattern matches nothing: pyinfra would do nothing and exit 0.
        """
        patterns = tuple(limit)
        chosen: set[str] = set()
        for pattern in patterns:
            found = {host.name for host in self.group(pattern)} or {n for n in self.names if fnmatch(n, pattern)}
            if not found:
                raise Gb10Error("HOST_UNKNOWN", wanted=pattern, inventory=self.source, known=list(self.names))
            chosen |= found
        return tuple(host for host in self.hosts if not patterns or host.name in chosen)

    def limit_pattern(self, host: InventoryHost) -> str:
        """Return the pattern by which pyinfra's --limit means exactly this host, not a group of the same name."""
        groups = {group for other in self.hosts for group in other.groups}
        return f"[{host.name[0]}]{glob.escape(host.name[1:])}" if host.name in groups else glob.escape(host.name)


def load_inventory(source: str) -> Inventory:
    """Given a path (or whatever else pyinfra takes), return its hosts. Raise INVENTORY_MISSING or INVENTORY_BROKEN."""
    if not Path(source).exists() and not any(mark in source for mark in ",@"):
        raise Gb10Error("INVENTORY_MISSING", inventory=source)
    document = _probe(source)
    if "error" in document:
        raise Gb10Error("INVENTORY_BROKEN", inventory=source, reason=document["error"])
    if not document["hosts"]:
        raise Gb10Error("INVENTORY_BROKEN", inventory=source, reason="it names no host")
    return Inventory(source, tuple(_host(entry) for entry in document["hosts"]))


def _probe(source: str) -> dict[str, Any]:
    with Child("gb10.controller.run.inventory_probe", [source], os.environ) as probe:
        probe.stop_after(LOAD_SECONDS)
        began = time.monotonic()
        said = [line.strip() for line in probe.lines() if line.strip()]
        probe.wait()
        try:
            document: dict[str, Any] = json.loads(probe.output())
        except json.JSONDecodeError:
            if time.monotonic() - began >= LOAD_SECONDS:
                return {"error": f"it did not load within {LOAD_SECONDS} s"}
            return {"error": said[-1] if said else "pyinfra said nothing"}
    return document


def _host(entry: dict[str, Any]) -> InventoryHost:
    name, data = entry["name"], entry["data"]
    return InventoryHost(
        name=name,
        groups=tuple(entry["groups"]),
        address=str(data["ssh_hostname"] or name),
        port=int(data["ssh_port"] or 22),
        user=data["ssh_user"],
        key=data["ssh_key"],
        known_hosts=data["ssh_known_hosts_file"],
        ssh_config=data["ssh_config_file"],
        node_name=str(data["node_name"] or name).lower(),
        k3s_version=data["k3s_version"],
        rails=_rails(data["rails"]),
        gpu_operator=data["gpu_operator_enabled"] is not False,
        network_operator=data["network_operator_enabled"] is not False,
        data=data,
    )


def _rails(rails: Any) -> dict[str, str]:
    """Interfaces by rail; what is no rail is left out here: the deploys check and name it."""
    found = rails.items() if isinstance(rails, dict) else ()
    return {
        str(name): str(rail["interface"]) for name, rail in found if isinstance(rail, dict) and rail.get("interface")
    }
