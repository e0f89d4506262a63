"""What an inventory says about a node, over the defaults of gb10.group_data.all, checked."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pyinfra.api import Host
from pyinfra.api.exceptions import DeployError
from pyinfra.context import host

from gb10.group_data import all as defaults
from gb10.operations.kit.versions import parse_version

Model = TypeVar("Model", bound=BaseModel)

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]

HEAD, WORKERS = "head", "workers"
API_PORT = 6443
# Keys of config.yaml that would have no effect, or break what looks for K3s where it always is: key -> why.
REFUSED_KEYS = {
    **dict.fromkeys(
        ("token", "agent-token", "datastore-endpoint", "etcd-s3-access-key", "etcd-s3-secret-key", "vpn-auth"),
        "config.yaml holds no secret, since a diff shows it; K3s reads it as a variable in /etc/default/k3s as well",
    ),
    **dict.fromkeys(
        ("token-file", "data-dir", "write-kubeconfig", "config"), "gb10 looks for it in its official place"
    ),
    "https-listen-port": f"gb10 and the workers look for the API server on port {API_PORT}",
    "node-name": "set node_name for the host",
    "docker": "set k3s_runtime",
}
CLUSTER_NETWORKS = ("10.42.0.0/16", "10.43.0.0/16", ".svc", ".cluster.local")  # K3s' pods and services


class K3sSettings(BaseModel):
    """How K3s is to be on a node: the keys of group_data/all.py, without their prefix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    sha256: dict[str, dict[Literal["arm64", "amd64"], Digest]]
    mirror: str
    airgap: str | None
    runtime: Literal["docker", "containerd"]
    disable: list[str]
    config: dict[str, Any]
    server_config: dict[str, Any]
    agent_config: dict[str, Any]
    registries: dict[str, Any]
    start_seconds: int = Field(gt=0)
    drain_seconds: int = Field(gt=0)

    @property
    def pins(self) -> dict[str, str]:
        """Architecture -> pinned digest of the wanted version."""
        return {str(architecture): digest for architecture, digest in self.sha256.get(self.version, {}).items()}

    @field_validator("config", "server_config", "agent_config")
    @classmethod
    def _is_ours_to_keep(cls, config: dict[str, Any]) -> dict[str, Any]:
        # K3s takes "key+" for one that adds to a list.
        found = [f"{key}: {REFUSED_KEYS[name]}" for key in config if (name := key.removesuffix("+")) in REFUSED_KEYS]
        if found:
            raise ValueError("; ".join(found))
        return config

    @field_validator("version")
    @classmethod
    def _is_version(cls, version: str) -> str:
        parse_version(version)
        return version


class Proxy(BaseModel):
    """The proxy through which a node reaches the world."""

    http_proxy: str | None
    https_proxy: str | None
    no_proxy: list[str]

    def environment(self, nodes: list[str]) -> dict[str, str]:
        """Given the addresses of the nodes, return the variables that curl and K3s read; none without a proxy."""
        proxies = {"HTTP_PROXY": self.http_proxy, "HTTPS_PROXY": self.https_proxy}
        found = {name: value for name, value in proxies.items() if value}
        if not found:
            return {}
        direct = ["127.0.0.1", "localhost", *nodes, *CLUSTER_NETWORKS, *self.no_proxy]
        return {**found, "NO_PROXY": ",".join(dict.fromkeys(direct))}


def value(key: str) -> Any:
    """Given a key of group_data/all.py, return what the inventory says of this host, or else the default."""
    found = host.data.get(key)
    return getattr(defaults, key) if found is None else found


def k3s_settings(**overrides: Any) -> K3sSettings:
    """Given a deploy's own arguments, return this host's settings. Raise DeployError for what cannot be."""
    unknown = overrides.keys() - K3sSettings.model_fields.keys()
    wanted = {name: overrides.get(name) for name in K3sSettings.model_fields}
    values = {name: value(f"k3s_{name}") if given is None else given for name, given in wanted.items()}
    return checked(K3sSettings, values | {name: overrides[name] for name in unknown})


def proxy() -> Proxy:
    """Return this host's proxy. Raise DeployError for what cannot be."""
    return checked(Proxy, {name: value(name) for name in Proxy.model_fields})


def checked(model: type[Model], values: dict[str, Any]) -> Model:
    """Given a model and its values, return it. Raise DeployError with the names of what is wrong."""
    try:
        return model(**values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise DeployError(f"gb10: SETTINGS_INVALID: {host.name}: {wrong}") from error


def head() -> Host:
    """Return the head of this host's cluster. Raise DeployError where the inventory names none, or several."""
    heads = host.inventory.groups.get(HEAD, [])
    if len(heads) != 1:
        raise DeployError(f"gb10: SETTINGS_INVALID: the inventory's group {HEAD!r} has {len(heads)} hosts, not one")
    return heads[0]


def nodes() -> list[Host]:
    """Return the nodes of the cluster, the head first; all hosts of an inventory that has no such groups."""
    groups = host.inventory.groups
    return [*groups.get(HEAD, []), *groups.get(WORKERS, [])] or list(host.inventory)


def is_node() -> bool:
    """Tell whether this host is a node of the cluster."""
    return host.name in [node.name for node in nodes()]


def is_in(group: str) -> bool:
    """Tell whether this host belongs to a group of the inventory."""
    return group in host.groups


def k3s_role() -> str | None:
    """Return what this host is to be in the cluster, "server" or "agent"; None outside the groups head and workers."""
    return "server" if is_in(HEAD) else "agent" if is_in(WORKERS) else None


def node_name(node: Host) -> str:
    """Given a host, return its name in Kubernetes: pinned, since a wiped node comes back with its factory hostname."""
    return str(node.data.get("node_name") or node.name).lower()


def node_ip(node: Host) -> str:
    """Given a host, return the address at which the other nodes reach it on the management network."""
    return str(node.data.get("node_ip") or ssh_address(node))


def ssh_address(node: Host) -> str:
    """Given a host, return the address or name at which the controller reaches it."""
    return str(node.data.get("ssh_hostname") or node.name)


def kubernetes_ip(node: Host) -> str:
    """Given a host, return the IP address under which K3s is to know it. Raise DeployError where we have a name only.

    K3s takes no name for it, and what the controller's DNS or ssh knows need not mean anything on the other nodes.
    """
    address = node_ip(node)
    try:
        return str(ip_address(address))
    except ValueError as error:
        raise DeployError(
            f"gb10: SETTINGS_INVALID: {node.name}: {address!r} is no IP address: "
            "set node_ip to the one that it has on the management network"
        ) from error
