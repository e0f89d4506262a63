"""K3s on the nodes of a cluster: the server on the head, agents on the workers, and their end."""

from __future__ import annotations

from typing import Any

from pyinfra.api.operation import OperationMeta
from pyinfra.context import host

from gb10.facts.docker import DockerEngine
from gb10.facts.file import MaskedFile, SecretFile, TextFile
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall, Secret
from gb10.facts.node import CommandPaths, NodeLock
from gb10.facts.reading.k3s import (
    CONFIG,
    KILLALL,
    REGISTRIES,
    TOKEN_FILE,
    UNINSTALL,
    UNITS,
    env_file,
    server_url,
    unit_file,
)
from gb10.group_data.settings import K3sSettings
from gb10.operations import k3s, kubectl, preflight, upgrade
from gb10.operations.file import masked_file, secret_file, text_file
from gb10.operations.k3s import LINKS, kubeconfig_file
from gb10.operations.kit.inventory import (
    HEAD,
    WORKERS,
    deploy,
    downloads_proxy,
    head,
    is_in,
    kubernetes_ip,
    node_name,
    read_settings,
    ssh_address,
)
from gb10.operations.kit.reading import read_ahead
from gb10.templates import render


@deploy("K3s server", K3sSettings)
def k3s_server(**overrides: Any) -> None:
    """
    Have a K3s server on the head.

    + overrides: keys of group_data/all.py without their prefix: version, runtime, config ...

    Hosts outside the group `head` are left alone, but all wait for it: what a deploy does next finds the server up.
    """
    if is_in(HEAD):
        settings = read_settings(K3sSettings, **overrides)
        check_k3s("server", settings)
        install_k3s("server", settings)
    k3s.all_reached(name="Wait for the head")


@deploy("K3s agent", K3sSettings)
def k3s_agent(**overrides: Any) -> None:
    """
    Have K3s agents on the workers, joined to the server on the head, which must be up.

    + overrides: keys of group_data/all.py without their prefix: version, runtime, config ...

    Hosts outside the group `workers` are left alone, but all wait for it. A worker that was wiped may come back under
    its name.
    """
    if is_in(WORKERS):
        settings = read_settings(K3sSettings, **overrides)
        check_k3s("agent", settings)
        k3s.server_answers(name="Wait for the K3s server", head=head(), seconds=settings.start_seconds)
        install_k3s("agent", settings)
    k3s.all_reached(name="Wait for the workers")


@deploy("K3s teardown")
def k3s_teardown() -> None:
    """Remove K3s from the nodes, the workers first: whole or half installed, and nothing of anybody else's."""
    if is_in(WORKERS):
        k3s.uninstall(name="Uninstall the K3s agent", role="agent")
    k3s.all_reached(name="Wait for the workers")
    if is_in(HEAD):
        k3s.uninstall(name="Uninstall the K3s server", role="server")


@deploy("Forget node")
def forget_node(node: str) -> None:
    """
    Have the cluster forget a node that was removed.

    + node: its name in Kubernetes
    """
    if is_in(HEAD):
        kubectl.delete_node(name=f"Delete node {node}", node=node)


@deploy("Kubeconfig", changes_nodes=False)
def kubeconfig(dest: str) -> None:
    """
    Fetch the administrator's kubeconfig from the head.

    + dest: path on the controller; the file is made 0600 there, and must not exist
    """
    if is_in(HEAD):
        kubeconfig_file(name="Fetch the kubeconfig", dest=dest)


def check_k3s(role: str | None, settings: K3sSettings) -> None:
    """Refuse nodes on which the rest could not work. Hosts outside the cluster share this call, and always pass."""
    if role:
        _look_at(role, settings)
    preflight.preflight(
        name="Check the nodes",
        role=role,
        version=settings.version,
        runtime=settings.runtime,
        config=_config(role, settings) if role else {},
        variables=sorted(downloads_proxy()),
    )


def _look_at(role: str, settings: K3sSettings) -> None:
    """Read the facts that the operations below need, in one round trip."""
    read_ahead(
        {
            NodeLock: [{}],
            NodeIdentity: [{}],
            K3sInstall: [{}],
            CommandPaths: [{"names": LINKS}],
            DockerEngine: [{}] if settings.runtime == "docker" else [],
            TextFile: [{"path": path} for path in (KILLALL, UNINSTALL[role])],
            MaskedFile: [{"path": path} for path in (CONFIG, unit_file(role))],
            SecretFile: [{"path": path} for path in (TOKEN_FILE, REGISTRIES, env_file(role))],
        }
    )


def install_k3s(role: str, settings: K3sSettings) -> None:
    """Write the files that K3s starts from, then run it. Only the token differs between the roles."""
    node, seconds = node_name(host), settings.start_seconds
    environment = downloads_proxy()
    # What may well fail comes first: without it a node has neither half a K3s, nor a new configuration for the old one.
    binary = k3s.binary(
        name=f"Download K3s {settings.version}",
        version=settings.version,
        mirror=settings.mirror,
        sha256=settings.pins,
        airgap=settings.airgap,
        proxy=environment,
    )
    if settings.airgap:
        k3s.airgap_images(
            name="Bring K3s' images", folder=settings.airgap, runtime=settings.runtime, version=settings.version
        )
    if role == "server":
        token = k3s.server_token(name="Keep the server's token")
    else:
        token = k3s.join_token(name="Keep the join token", head=head())
    files = _files(role, settings, environment)
    k3s.command_links(name="Link kubectl and crictl")
    upgraded = upgrade.upgrade(
        name=f"Upgrade to K3s {settings.version}",
        role=role,
        version=settings.version,
        sha256=settings.pins,
        node=node,
        head=head(),
        seconds=seconds,
        drain_seconds=settings.drain_seconds,
        _serial=True,
    )
    if role == "agent":
        k3s.rejoin(name="Clear what the cluster remembers of a wiped node", node=node, head=head())
    k3s.service(
        name=f"Run the K3s {role}",
        role=role,
        version=settings.version,
        node=node,
        head=head(),
        seconds=seconds,
        started_from=[token, *files, binary],
        restarted_by=upgraded,
    )


def _files(role: str, settings: K3sSettings, environment: dict[str, str]) -> list[OperationMeta]:
    """Keep every file of the official installation; return the operations on those that K3s is started from."""
    text_file(name="Write k3s-killall.sh", path=KILLALL, content=render("k3s/k3s-killall.sh.j2"), mode="755")
    text_file(
        name="Write the uninstall script", path=UNINSTALL[role], content=render("k3s/k3s-uninstall.sh.j2"), mode="755"
    )
    if settings.registries and settings.runtime == "docker":
        host.log_styled("k3s_registries has no effect with Docker: mirrors and logins are Docker's own", fg="yellow")
    config = render("k3s/config.yaml.j2", config=_config(role, settings))
    unit = render("k3s/k3s.service.j2", unit=UNITS[role], role=role, runtime=settings.runtime)
    # These two may hold passwords, of a registry and of a proxy: a diff shows none of them.
    registries = Secret(render("k3s/registries.yaml.j2", registries=settings.registries))
    variables = Secret(render("k3s/k3s.service.env.j2", environment=environment))
    return [
        masked_file(name="Write config.yaml", path=CONFIG, content=config, mode="600"),
        secret_file(name="Write registries.yaml", path=REGISTRIES, content=registries),
        secret_file(name="Write the unit's environment", path=env_file(role), content=variables),
        masked_file(name="Write the systemd unit", path=unit_file(role), content=unit),
    ]


def _config(role: str, settings: K3sSettings) -> dict[str, object]:
    """Return the content of config.yaml: our own keys, then those that the inventory adds or overrides."""
    ours: dict[str, object] = {
        "node-name": node_name(host),
        "node-ip": kubernetes_ip(host),
        "token-file": TOKEN_FILE,
    }
    if settings.runtime == "docker":
        ours["docker"] = True
    if role == "server":
        ours |= {"write-kubeconfig-mode": "0600", "disable": settings.disable}
        return with_name({**ours, **settings.config, **settings.server_config}, ssh_address(host))
    return {**ours, "server": server_url(kubernetes_ip(head())), **settings.config, **settings.agent_config}


def with_name(config: dict[str, object], name: str) -> dict[str, object]:
    """Add to a server's certificate the name that kubeconfigs use for the server."""
    given = config.get("tls-san", [])
    names = [str(each) for each in given] if isinstance(given, list) else str(given).split(",")
    return config if name in (config["node-ip"], *names) else {**config, "tls-san": [*names, name]}
