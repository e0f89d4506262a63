"""`k3s agent`, and the agent half of `k3s server`: join with a token, then run the node."""

from __future__ import annotations

import http.client
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from gb10.lab.kube import client, config, host, nodepassword, paths, tokens
from gb10.lab.kube.api import JOIN_PATH
from gb10.lab.kube.client import Client, RefusedError
from gb10.lab.kube.engine import Engine, EngineError
from gb10.lab.kube.errors import StartError
from gb10.lab.kube.journal import log, notify
from gb10.lab.kube.kubelet import Kubelet
from gb10.lab.kube.node import CONTAINERD, NodeDescription, default_address
from gb10.lab.kube.objects import Obj
from gb10.lab.kube.pods import PodContainers

RETRY_SECONDS = 2


@dataclass(frozen=True)
class Membership:
    """A node and its cluster: the server, the join token, the node. `folder` is the agent's own."""

    url: str
    token: tokens.Token
    node: NodeDescription
    containers: PodContainers | None
    folder: Path


def describe_node(options: config.Options, version: str, runtime: str, roles: tuple[str, ...]) -> NodeDescription:
    """Return the node described by the settings. Raise StartError if it has no valid IP address."""
    addresses = tuple(options.many("node-ip")) or (default_address(),)
    for address in addresses:
        try:
            ip_address(address)
        except ValueError as error:
            raise StartError(f"invalid ip format '{address}'") from error
    name = options.text("node-name") or socket.gethostname().lower()
    if options.flag("with-node-id"):
        name = f"{name}-{_node_id()}"
    return NodeDescription(
        name=name,
        addresses=addresses,
        version=version,
        runtime=runtime,
        roles=roles,
        labels=dict(_pair(text) for text in options.many("node-label")),
        taints=tuple(_taint(text) for text in options.many("node-taint")),
    )


def _node_id() -> str:
    path = paths.rooted(paths.NODE_ID)
    if not path.exists():
        paths.write_secret(path, secrets.token_hex(4) + "\n")
    return path.read_text().strip()


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _taint(text: str) -> Obj:
    pair, _, effect = text.rpartition(":")
    key, value = _pair(pair)
    return {"key": key, "value": value, "effect": effect}


def container_runtime(options: config.Options) -> tuple[str, PodContainers | None]:
    """Return the runtime's name and version, and with Docker its containers. Raise StartError if Docker is down."""
    if not options.flag("docker"):
        return CONTAINERD, None
    engine = Engine()
    try:
        return f"docker://{engine.version()}", PodContainers(engine)
    except EngineError as error:
        raise StartError(f"failed to run Kubelet: failed to start cri-dockerd: {error}") from error


def run(options: config.Options, version: str) -> None:
    """Join the cluster and run the node forever. Raise StartError for invalid settings."""
    log("info", f"Starting k3s agent {version}")
    secret, url = options.secret("token"), options.text("server")
    if not secret:
        raise StartError("--token is required")
    if not url:
        raise StartError("--server is required")
    if not url.startswith("https://"):
        raise StartError(f"only https:// URLs are supported, invalid scheme: {url}")
    token = tokens.parse(secret)
    runtime, containers = container_runtime(options)
    node = describe_node(options, version, runtime, ())
    host.prepare()
    membership = Membership(url.rstrip("/"), token, node, containers, agent_folder(options))
    join(membership, lambda: notify("READY=1")).run()


def agent_folder(options: config.Options) -> Path:
    return paths.rooted(options.text("data-dir") or paths.DATA_DIR) / "agent"


def join(membership: Membership, joined: Callable[[], None]) -> Kubelet:
    """Join the cluster, with endless retries. Log each failure in K3s' words."""
    while True:
        try:
            kubelet = _join_once(membership)
        except (RefusedError, OSError, http.client.HTTPException, StartError) as error:
            log("error", _explain(membership.url, error))
            time.sleep(RETRY_SECONDS)
        else:
            joined()
            return kubelet


def _explain(url: str, error: Exception) -> str:
    if isinstance(error, RefusedError):
        return f"Waiting to retrieve agent configuration; server is not ready: {error}"
    return f"Failed to validate connection to cluster at {url}: {error}"


def _join_once(membership: Membership) -> Kubelet:
    ca = _trusted_ca(membership)
    paths.write_secret(membership.folder / "server-ca.crt", ca.decode(), 0o644)
    node = membership.node.name
    password = nodepassword.own_password(paths.rooted(paths.NODE_PASSWORD))
    server = Client(membership.url, client.verifying_context(ca), client.token_authorization(membership.token))
    headers = {"K3s-Node-Name": node, "K3s-Node-Password": password}
    credential = server.call("GET", JOIN_PATH, **headers)["credential"]
    server.authorization = f"Bearer {credential}"
    kubelet = Kubelet(server, membership.node, membership.containers)
    kubelet.register()
    return kubelet


def _trusted_ca(membership: Membership) -> bytes:
    """Fetch the cluster's CA. Raise StartError if the token belongs to another CA."""
    anonymous = Client(membership.url, client.unverified_context())
    try:
        ca = anonymous.raw("GET", "/cacerts")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        message = f'failed to get CA certs: Get "{membership.url}/cacerts": dial tcp: connect: {why}'
        raise StartError(message) from error
    except (RefusedError, http.client.HTTPException) as error:
        raise StartError(f"failed to get CA certs: {error}") from error
    finally:
        anonymous.close()
    wanted, found = membership.token.ca_hash, tokens.ca_hash(ca)
    if wanted and wanted != found:
        raise StartError(f"token CA hash does not match the Cluster CA certificate hash: {wanted} != {found}")
    return ca
