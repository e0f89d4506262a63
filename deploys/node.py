"""A node from vanilla DGX OS to ready: every part is a function of its own, with a switch of its own."""

from __future__ import annotations

import re
from ipaddress import ip_interface
from typing import Any

from pyinfra.api import Host
from pyinfra.context import host
from pyinfra.facts.server import User

from gb10.group_data.settings import NodeNetwork, NodeSettings, NodeSystem, NodeWorkplace, SshSettings
from gb10.operations.docker import daemon_config
from gb10.operations.file import text_block
from gb10.operations.kit.inventory import deploy, invalid, is_address, node_ip, node_name, rails_of, read_settings
from gb10.operations.node import firewall, folders, hostname, performance_mode
from gb10.operations.rails import Rail, rails
from gb10.operations.sshd import key_logins_only
from gb10.operations.user import account, authorized_keys, group_member, sudo_rule

PODS = ("10.42.0.0/16", "10.43.0.0/16")  # K3s' pods and services


@deploy("Node", NodeSettings)
def node(**overrides: Any) -> None:
    """
    Have a vanilla DGX OS node ready: user, keys, sudo, hostname, /data, Docker, speed, rails, sshd.

    + overrides: keys of group_data/all.py without their prefix `node_`: docker=False, user_keys=[...] ...

    What may be refused, or cut the way to the node, comes last.
    """
    settings = read_settings(NodeSettings, **overrides)
    login = read_settings(SshSettings).user or str(host.get_fact(User, _sudo=False) or "root")
    user = settings.user_name or login
    have_system(settings, user)
    have_workplace(settings, user)
    have_network(settings)


def have_system(settings: NodeSystem, user: str) -> None:
    """Set who may log in, and the names of the node and of the others."""
    if settings.user:
        account(name=f"Have an account {user}", user=user)
        authorized_keys(name=f"Let keys open {user}'s account", user=user, keys=settings.user_keys)
    if settings.sudo and user != "root":
        sudo_rule(name=f"Let {user} use sudo", user=user)
    if settings.hosts:
        peers = sorted(host.inventory, key=lambda peer: peer.name)
        lines = [line for peer in peers for line in host_lines(peer)]
        text_block(name="Write the nodes into /etc/hosts", path="/etc/hosts", lines=lines)
    if settings.hostname:
        have_hostname()


def have_hostname() -> None:
    """Give the node its name in the inventory."""
    wanted = node_name(host)
    if not re.fullmatch(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", wanted):
        raise invalid(f"{host.name}: {wanted!r} is no hostname; set node_name, or node_hostname = False")
    hostname(name="Set the hostname", wanted=wanted)


def host_lines(peer: Host) -> list[str]:
    """Return the lines of /etc/hosts for a node: its address, unless that is a name already, and its rails."""
    name = node_name(peer)
    lines = [f"{node_ip(peer)} {name}"] if is_address(node_ip(peer)) else []
    return lines + [f"{rail.ip} {name}-rail-{key}" for key, rail in sorted(rails_of(peer).items())]


def have_workplace(settings: NodeWorkplace, user: str) -> None:
    """Have the place for models and containers, and full speed."""
    if settings.data:
        title = f"Have the folders on {settings.data_path}"
        folders(name=title, path=settings.data_path, names=settings.data_folders, user=user)
    if settings.huggingface:
        # /etc/environment counts for commands that ssh runs, too.
        lines = [f"HF_HOME={settings.huggingface_home}"]
        text_block(name="Set HF_HOME for every session", path="/etc/environment", lines=lines)
    if settings.performance:
        performance_mode(name="Switch performance mode on")
    if settings.docker:
        have_docker(settings, user)


def have_docker(settings: NodeWorkplace, user: str) -> None:
    """Configure Docker, and let the user use it. Later parts of the run rely on it, also in a dry run."""
    host.data.gb10_docker = True
    daemon_config(
        name="Configure Docker",
        config=settings.docker_config,
        disturb=settings.restart_while_serving,
        patterns=settings.serving_containers,
    )
    if user != "root":
        group_member(name=f"Let {user} use Docker", user=user, group="docker")


def have_network(settings: NodeNetwork) -> None:
    """Configure what may cut the way to the node. Each part takes itself back if it does."""
    halves = rails_of(host).values() if settings.rails else ()
    if wanted := [Rail(half.interface, half.address, settings.rails_mtu) for half in halves]:
        rails(
            name="Configure the rails",
            wanted=wanted,
            seconds=settings.confirm_seconds,
            disturb=settings.restart_while_serving,
            patterns=settings.serving_containers,
        )
    if settings.sshd:
        key_logins_only(name="Let sshd accept keys only", seconds=settings.confirm_seconds)
    if settings.firewall:
        have_firewall(settings)


def have_firewall(settings: NodeNetwork) -> None:
    """Switch ufw on, open for the nodes among themselves, for pods, and for what the inventory allows."""
    peers = [node_ip(peer) for peer in sorted(host.inventory, key=lambda peer: peer.name) if peer.name != host.name]
    networks = [str(ip_interface(rail.address).network) for rail in rails_of(host).values()]
    rules = [f"allow from {source}" for source in [*filter(is_address, peers), *networks, *PODS]]
    firewall(name="Switch the firewall on", rules=[*rules, *settings.firewall_allow], seconds=settings.confirm_seconds)
