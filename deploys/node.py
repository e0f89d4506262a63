"""A node from vanilla DGX OS to ready: every part is a function of its own, with a switch of its own."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface
from typing import Any

from pyinfra.api import Host
from pyinfra.context import host
from pyinfra.facts.server import User

from gb10.group_data.settings import NodeNetwork, NodeSettings, NodeSystem, NodeWorkplace, SshSettings
from gb10.operations.docker import daemon_config
from gb10.operations.file import text_block
from gb10.operations.kit.inventory import deploy, invalid, node_ip, node_name, rails_of, read_settings
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
    """
    provision_node(read_settings(NodeSettings, **overrides))


def provision_node(settings: NodeSettings) -> None:
    """Have every part that is switched on; what may be refused, or cut the way to the node, comes last."""
    user = settings.user_name or login_user()
    have_system(settings, user)
    have_workplace(settings, user)
    have_network(settings)


def have_system(settings: NodeSystem, user: str) -> None:
    """Who may come in, and what the node and the others are called."""
    if settings.user:
        have_user(settings, user)
    if settings.sudo:
        have_sudo(user)
    if settings.hosts:
        have_hosts()
    if settings.hostname:
        have_hostname()


def have_workplace(settings: NodeWorkplace, user: str) -> None:
    """Where models lie and containers run, and how fast."""
    if settings.data:
        have_data(settings, user)
    if settings.huggingface:
        have_huggingface(settings)
    if settings.performance:
        performance_mode(name="Switch performance mode on")
    if settings.docker:
        have_docker(settings, user)


def have_network(settings: NodeNetwork) -> None:
    """What may cut the way to the node, and takes itself back if it does."""
    if settings.rails:
        have_rails(settings)
    if settings.sshd:
        key_logins_only(name="Let sshd accept keys only", seconds=settings.confirm_seconds)
    if settings.firewall:
        have_firewall(settings)


def login_user() -> str:
    """Return the user as whom this host is reached: its data say so, or the node itself."""
    return read_settings(SshSettings).user or str(host.get_fact(User, _sudo=False) or "root")


def have_user(settings: NodeSystem, user: str) -> None:
    """The account, and the keys that open it."""
    account(name=f"Have an account {user}", user=user)
    authorized_keys(name=f"Let keys open {user}'s account", user=user, keys=settings.user_keys)


def have_sudo(user: str) -> None:
    """sudo without a password, for whoever is not root already."""
    if user != "root":
        sudo_rule(name=f"Let {user} use sudo", user=user)


def have_hostname() -> None:
    """The node's name in the inventory."""
    wanted = node_name(host)
    if not re.fullmatch(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", wanted):
        raise invalid(f"{host.name}: {wanted!r} is no hostname; set node_name, or node_hostname = False")
    hostname(name="Set the hostname", wanted=wanted)


def have_hosts() -> None:
    """All nodes of the inventory by name, on the management network and on the rails."""
    lines = [line for peer in sorted(host.inventory, key=lambda peer: peer.name) for line in host_lines(peer)]
    text_block(name="Write the nodes into /etc/hosts", path="/etc/hosts", lines=lines)


def host_lines(peer: Host) -> list[str]:
    """Given a node, return its lines of /etc/hosts: where its address is a name, that name is known already."""
    name = node_name(peer)
    lines = [f"{node_ip(peer)} {name}"] if _is_address(node_ip(peer)) else []
    return lines + [f"{rail.ip} {name}-rail-{key}" for key, rail in sorted(rails_of(peer).items())]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def have_data(settings: NodeWorkplace, user: str) -> None:
    """The folders on /data."""
    folders(
        name=f"Have the folders on {settings.data_path}",
        path=settings.data_path,
        names=settings.data_folders,
        user=user,
    )


def have_huggingface(settings: NodeWorkplace) -> None:
    """The cache of models, in every session: /etc/environment also counts for commands that ssh runs."""
    text_block(
        name="Set HF_HOME for every session",
        path="/etc/environment",
        lines=[f"HF_HOME={settings.huggingface_home}"],
    )


def have_docker(settings: NodeWorkplace, user: str) -> None:
    """Docker's configuration, and the user in its group. A later part of the run may count on it, also in a dry run."""
    host.data.gb10_docker = True
    daemon_config(
        name="Configure Docker",
        config=settings.docker_config,
        disturb=settings.restart_while_serving,
        patterns=settings.serving_containers,
    )
    if user != "root":
        group_member(name=f"Let {user} use Docker", user=user, group="docker")


def have_rails(settings: NodeNetwork) -> None:
    """Both halves of the cabled port, where the inventory names them."""
    wanted = [Rail(rail.interface, rail.address, settings.rails_mtu) for rail in rails_of(host).values()]
    if wanted:
        rails(
            name="Configure the rails",
            wanted=wanted,
            seconds=settings.confirm_seconds,
            disturb=settings.restart_while_serving,
            patterns=settings.serving_containers,
        )


def have_firewall(settings: NodeNetwork) -> None:
    """ufw, open for the nodes among themselves, for pods, and for what the inventory allows."""
    peers = [node_ip(peer) for peer in sorted(host.inventory, key=lambda peer: peer.name) if peer.name != host.name]
    networks = [str(ip_interface(rail.address).network) for rail in rails_of(host).values()]
    rules = [f"allow from {source}" for source in [*filter(_is_address, peers), *networks, *PODS]]
    firewall(name="Switch the firewall on", rules=[*rules, *settings.firewall_allow], seconds=settings.confirm_seconds)
