"""The hosts of an inventory, without a connection to them.

The pyinfra process loads the inventory, so that a host, a group or a value means the same here as in a run.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from gb10.controller.errors import Gb10Error
from gb10.controller.run.client import PyinfraProcess
from gb10.controller.run.messages import Event, InventoryFailed, LoadedInventory, LoadInventory, Logged
from gb10.group_data.settings import (
    AnyTopic,
    HostSettings,
    K3sSettings,
    NodeWorkplace,
    RailsSettings,
    Settings,
    SettingsError,
    SshSettings,
)

LOAD_SECONDS = 60  # an inventory may query a database or a cloud


@dataclass(frozen=True)
class InventoryHost:
    """A host of an inventory with its settings."""

    name: str
    groups: tuple[str, ...] = ()
    said: Settings = field(default_factory=Settings)

    def settings(self, topic: type[AnyTopic]) -> AnyTopic:
        """Return a topic of the host's settings. Raise SETTINGS_INVALID for an invalid value."""
        try:
            return self.said.read(topic)
        except SettingsError as error:
            raise Gb10Error("SETTINGS_INVALID", f"{self.name}: {error}", host=self.name) from error

    @cached_property
    def login(self) -> SshSettings:
        """Settings of its SSH connection. A known_hosts or config file of None is that of ssh itself."""
        return self.settings(SshSettings)

    @property
    def address(self) -> str:
        """Address of its sshd."""
        return self.login.hostname or self.name

    @property
    def node_name(self) -> str:
        """Name in Kubernetes."""
        return (self.settings(HostSettings).node_name or self.name).lower()

    @property
    def node_ip(self) -> str:
        """Address for the other nodes on the management network."""
        return self.settings(HostSettings).node_ip or self.address

    @property
    def rails(self) -> dict[str, str]:
        """Rail -> its network interface."""
        return {name: rail.interface for name, rail in self.settings(RailsSettings).rails.items()}

    @property
    def hub(self) -> str:
        """Folder of the repositories in its Hugging Face cache."""
        return self.settings(NodeWorkplace).hub

    @property
    def wanted_k3s(self) -> str | None:
        """Version of K3s in the inventory or its group data, or None."""
        return self.settings(K3sSettings).version if "k3s_version" in self.said.said else None

    @property
    def endpoint(self) -> str:
        """Key of its lock: "198.18.0.11:22"."""
        return f"{self.address}:{self.login.port}"

    @property
    def ssh(self) -> str:
        """The ssh command with which a person logs in."""
        known_hosts = self.login.known_hosts_file
        options = ["-o", f"UserKnownHostsFile={known_hosts}"] if known_hosts else []
        return shlex.join(["ssh", *self.ssh_options, *options, self.ssh_destination])

    @property
    def ssh_options(self) -> list[str]:
        """Port, configuration and key as options of ssh."""
        login = self.login
        options = ["-p", str(login.port)] if login.port != 22 else []
        options += ["-F", login.config_file] if login.config_file else []
        return options + (["-i", login.key] if login.key else [])

    @property
    def ssh_destination(self) -> str:
        return f"{self.login.user}@{self.address}" if self.login.user else self.address

    def details(self) -> dict[str, str]:
        """Return the details of the host for error texts."""
        return {"host": self.name, "ssh": f"{self.ssh} true", "ssh_base": self.ssh}


@dataclass(frozen=True)
class Inventory:
    """The hosts of an inventory in its order."""

    source: str
    hosts: tuple[InventoryHost, ...] = field(default_factory=tuple)

    def group(self, name: str) -> tuple[InventoryHost, ...]:
        """Return the hosts of a group; none if there is no such group."""
        return tuple(host for host in self.hosts if name in host.groups)

    def host(self, name: str) -> InventoryHost:
        """Return the host of a name."""
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
        """Return the hosts that match --limit: of a group, else by name; all without a limit.

        Raise HOST_UNKNOWN if a pattern matches nothing: pyinfra would do nothing and exit 0.
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
        """Return the --limit pattern of pyinfra that matches only this host, not a group of the same name."""
        groups = {group for other in self.hosts for group in other.groups}
        return f"[{host.name[0]}]{glob.escape(host.name[1:])}" if host.name in groups else glob.escape(host.name)


def load_inventory(source: str) -> Inventory:
    """Load an inventory from a path, or from any other source that pyinfra accepts.

    Raise INVENTORY_MISSING, INVENTORY_BROKEN, or SETTINGS_INVALID for misspelt settings.
    """
    if not Path(source).exists() and not any(mark in source for mark in ",@"):
        raise Gb10Error("INVENTORY_MISSING", inventory=source)
    loaded = _loaded(source)
    if isinstance(loaded, InventoryFailed):
        raise Gb10Error("INVENTORY_BROKEN", inventory=source, reason=loaded.reason)
    if loaded.misspelt:
        raise Gb10Error("SETTINGS_INVALID", "; ".join(loaded.misspelt), inventory=source)
    if not loaded.hosts:
        raise Gb10Error("INVENTORY_BROKEN", inventory=source, reason="it names no host")
    return Inventory(source, tuple(InventoryHost(one.name, one.groups, Settings(one.data)) for one in loaded.hosts))


def _loaded(source: str) -> LoadedInventory | InventoryFailed:
    lines: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Logged):
            lines.append(event.text)

    try:
        found = PyinfraProcess.ours().ask(LoadInventory(source), hear, LOAD_SECONDS)
    except Gb10Error as error:
        if error.code == "INTERRUPTED":
            raise
        return InventoryFailed("; ".join([*lines[-1:], error.summary]))
    return found if isinstance(found, LoadedInventory | InventoryFailed) else InventoryFailed("pyinfra gave no result")
