"""What the inventory says of hosts: their settings, their names and addresses, and their places in the cluster."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.reading.settings import settings_of
from gb10.group_data.settings import (
    AnyTopic,
    HostSettings,
    NodeWorkplace,
    Proxy,
    RailSettings,
    RailsSettings,
    SettingsError,
    SshSettings,
)
from gb10.operations.kit.failures import RefusedDeploy
from gb10.operations.kit.known_hosts import host_name

HEAD, WORKERS = "head", "workers"


def read_settings(topic: type[AnyTopic], of: Host | None = None, /, **instead: Any) -> AnyTopic:
    """
    Return a topic of a host's settings. Raise RefusedDeploy for what cannot be.

    + of: the host; None: the current one
    + instead: arguments of a deploy that count instead of the inventory, unless they are None
    """
    node = host if of is None else of
    try:
        return settings_of(node, topic, **instead)
    except SettingsError as error:
        raise invalid(f"{node.name}: {error}") from error


def invalid(reason: str) -> RefusedDeploy:
    """Return the error for settings that cannot be."""
    return RefusedDeploy("SETTINGS_INVALID", reason)


def named(name: str) -> Host:
    """Given a name, return that host of the inventory. Raise RefusedDeploy if there is none."""
    found = host.inventory.get_host(name, default=None)
    if found is None:
        raise invalid(f"the inventory has no host {name!r}")
    return found


def head() -> Host:
    """Return the head of this host's cluster. Raise RefusedDeploy where the inventory names none, or several."""
    heads = host.inventory.groups.get(HEAD, [])
    if len(heads) != 1:
        raise invalid(f"the inventory's group {HEAD!r} has {len(heads)} hosts, not one")
    return heads[0]


def nodes() -> list[Host]:
    """Return the nodes of the cluster, the head first; all hosts of an inventory that has no such groups."""
    groups = host.inventory.groups
    return [*groups.get(HEAD, []), *groups.get(WORKERS, [])] or list(host.inventory)


def is_node() -> bool:
    """Return True if this host is a node of the cluster."""
    return host.name in [node.name for node in nodes()]


def is_in(group: str) -> bool:
    """Return True if this host belongs to a group of the inventory."""
    return group in host.groups


def k3s_role() -> str | None:
    """Return what this host is to be in the cluster, "server" or "agent"; None outside the groups head and workers."""
    return "server" if is_in(HEAD) else "agent" if is_in(WORKERS) else None


def node_name(node: Host) -> str:
    """Given a host, return its name in Kubernetes: pinned, since a wiped node comes back with its factory hostname."""
    return (read_settings(HostSettings, node).node_name or node.name).lower()


def node_ip(node: Host) -> str:
    """Given a host, return the address at which the other nodes reach it on the management network."""
    return read_settings(HostSettings, node).node_ip or ssh_address(node)


def ssh_address(node: Host) -> str:
    """Given a host, return the address or name at which the controller reaches it."""
    return read_settings(SshSettings, node).hostname or node.name


def known_hosts_file(node: Host) -> Path:
    """Given a host, return the file of the controller in which pyinfra looks its key up."""
    return Path(read_settings(SshSettings, node).known_hosts_file or "~/.ssh/known_hosts").expanduser()


def known_as(node: Host) -> str:
    """Given a host, return its name in known_hosts."""
    return host_name(ssh_address(node), read_settings(SshSettings, node).port)


def kubernetes_ip(node: Host) -> str:
    """Given a host, return the IP address under which K3s is to know it. Raise RefusedDeploy where we have a name only.

    K3s takes no name for it, and what the controller's DNS or ssh knows need not mean anything on the other nodes.
    """
    address = node_ip(node)
    try:
        return str(ip_address(address))
    except ValueError as error:
        raise invalid(
            f"{node.name}: {address!r} is no IP address: set node_ip to the one that it has on the management network"
        ) from error


def rails_of(node: Host) -> dict[str, RailSettings]:
    """Return a host's rails, none where the inventory names none. Raise RefusedDeploy for what cannot be."""
    return read_settings(RailsSettings, node).rails


def meeting_address(node: Host) -> str:
    """Return the address at which other nodes meet a node: on its first rail, else on the management network."""
    rails = rails_of(node)
    return rails[min(rails)].ip if rails else node_ip(node)


def hub_of(node: Host) -> str:
    """Given a host, return the folder of its Hugging Face cache that holds the repositories."""
    return read_settings(NodeWorkplace, node).hub


def downloads_proxy() -> dict[str, str]:
    """Return the environment in which this host downloads."""
    return read_settings(Proxy).environment([node_ip(peer) for peer in host.inventory])
