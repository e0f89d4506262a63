"""The settings of group_data/all.py with their types, and those that a host has no default for.

A topic is a model with one field for each of its settings, without their common prefix. In an inventory all settings
stand side by side: `k3s_version` is `K3sSettings.version`.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_interface
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from gb10.group_data import all as defaults

# pyinfra takes every file in a folder group_data/ for the data of a group. This one has none.
__all__: list[str] = []

API_PORT = 6443  # of the K3s server
CLUSTER_NETWORKS = ("10.42.0.0/16", "10.43.0.0/16", ".svc", ".cluster.local")  # K3s' pods and services
DEFAULT_PREFIX = 24  # of a rail's address
CLUSTER, SOLO, OFF = "cluster", "solo", "off"

# Flags of k3s whose value is a secret, or may hold a password -> environment variable (docs.k3s.io/cli/server and
# /agent, with the deprecated ones, and docs.k3s.io/cli/etcd-snapshot).
SECRET_FLAGS = {
    "token": "K3S_TOKEN",
    "agent-token": "K3S_AGENT_TOKEN",
    "cluster-secret": "K3S_CLUSTER_SECRET",
    "datastore-endpoint": "K3S_DATASTORE_ENDPOINT",
    "vpn-auth": "K3S_VPN_AUTH",
    "etcd-s3-access-key": "AWS_ACCESS_KEY_ID",
    "etcd-s3-secret-key": "AWS_SECRET_ACCESS_KEY",
    "etcd-s3-session-token": "AWS_SESSION_TOKEN",
    "s3-access-key": "AWS_ACCESS_KEY_ID",
    "s3-secret-key": "AWS_SECRET_ACCESS_KEY",
    "s3-session-token": "AWS_SESSION_TOKEN",
}
# Keys of config.yaml that would have no effect, or break what looks for K3s where it always is: key -> why.
REFUSED_KEYS = {
    **dict.fromkeys(
        SECRET_FLAGS,
        "config.yaml holds no secret, since a diff shows it; K3s reads it as a variable in /etc/default/k3s as well",
    ),
    **dict.fromkeys(
        ("token-file", "data-dir", "write-kubeconfig", "config"), "gb10 looks for it in its official place"
    ),
    "https-listen-port": f"gb10 and the workers look for the API server on port {API_PORT}",
    "node-name": "set node_name for the host",
    "docker": "set k3s_runtime",
}
# Settings of pyinfra's SSH connector that gb10 leaves to pyinfra. Two are passwords: gb10 never reads them.
PYINFRA_SSH = (
    *("ssh_password", "ssh_key_password", "ssh_allow_agent", "ssh_look_for_keys", "ssh_forward_agent"),
    *("ssh_strict_host_key_checking", "ssh_paramiko_connect_kwargs", "ssh_file_transfer_protocol"),
    *("ssh_connect_retries", "ssh_connect_retry_min_delay", "ssh_connect_retry_max_delay"),
)


# Values ---------------------------------------------------------------------------------------------------------------


class Version(NamedTuple):
    """A K3s version: Kubernetes' own three numbers, and K3s' count of builds."""

    major: int
    minor: int
    patch: int
    build: int


def parse_version(text: str) -> Version:
    """Given "v1.36.4+k3s1", return its numbers. Raise ValueError for anything else."""
    matched = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)(?:-rc\d+)?\+k3s(\d+)", text)
    if not matched:
        raise ValueError(f"{text!r} is no K3s version: they look like v1.36.4+k3s1")
    return Version(*map(int, matched.groups()))


def works_on_gb10(version: str) -> str:
    """Return this version of the GPU Operator. Raise ValueError for one that is too old for GB10, or is none.

    Before v25.10.0 its device plugin cannot read the memory of a GB10 (NVIDIA/gpu-operator#1794).
    """
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if not numbers:
        raise ValueError(f"{version!r} is no version of the GPU Operator: they look like v26.7.0")
    if tuple(map(int, numbers.groups())) < (25, 10, 0):
        raise ValueError(f"GPU Operator {version} cannot read the memory of a GB10: take v25.10.0 or newer")
    return version


def brings_nfd(values: Mapping[str, Any]) -> bool:
    """Return True if these values of an operator's chart bring node feature discovery, as they do by default."""
    nfd = values.get("nfd")
    return not isinstance(nfd, Mapping) or bool(nfd.get("enabled", True))


def public_key(text: str) -> str:
    """Given a public key, or the path of one on the controller, return its line. Raise ValueError for anything else.

    What is no public key is never quoted: it may be a private one.
    """
    line = text.strip()
    if line.startswith(("/", "~", ".")):
        path = Path(line).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file {path} on this controller")
        line = path.read_text().strip()
    if "\n" in line or not _is_public_key(line):
        raise ValueError("is no public key: give the text or the path of a .pub file")
    return line


def _is_public_key(line: str) -> bool:
    """Return True if a line is a type, and a base64 text that names the same type."""
    words = line.split()
    if len(words) < 2:
        return False
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == words[0].encode()


Word = Annotated[str, StringConstraints(min_length=1)]
Text = Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Seconds = Annotated[int, Field(gt=0)]
# Exact: helm would take the newest of a range, and what is deployed would never be what was wanted.
ChartVersion = Annotated[str, StringConstraints(pattern=r"^v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
PlainPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_.+-]+)+$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$")]
FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-][A-Za-z0-9_.+-]*$")]
Mode = Annotated[str, StringConstraints(pattern="^[0-7]{3,4}$")]
InterfaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,15}$")]
ImageTag = Annotated[str, StringConstraints(pattern=r"^[\w.:][\w.:/-]*$")]
# "org/name" as on the Hub, "name" alone for the oldest, a kind before it, or everything.
RepositoryName = Annotated[str, StringConstraints(pattern=r"^(\*|((datasets|spaces)/)?([\w.-]+/)?[\w.-]+)$")]
ModeName = Literal["cluster", "solo"]
Role = Literal["head", "worker"]
Part = Literal["identity", "users", "network", "docker", "k3s", "system", "extra"]
Acceptable = Literal[
    "RESTORE_OTHER_NODE", "RESTORE_OTHER_MACHINE", "RESTORE_UNPROVEN", "RESTORE_AFTER_WIPE", "RESTORE_K3S_VERSION"
]


class Topic(BaseModel):
    """Settings that belong together."""

    # Built when first used: a command needs few of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    prefix: ClassVar[str] = ""


# Pins -----------------------------------------------------------------------------------------------------------------


class PinSettings(Topic):
    """Whether every download needs a pin, and where gb10 keeps its own."""

    require_pins: bool
    pins_file: Text


# K3s ------------------------------------------------------------------------------------------------------------------


class K3sRelease(Topic):
    """Which K3s, and where it comes from."""

    prefix = "k3s_"
    version: str
    sha256: dict[str, dict[Literal["arm64", "amd64"], Digest]]
    mirror: str
    airgap: str | None

    @property
    def pins(self) -> dict[str, str]:
        """Architecture -> pinned digest of the wanted version."""
        return {str(architecture): digest for architecture, digest in self.sha256.get(self.version, {}).items()}

    @field_validator("version")
    @classmethod
    def _is_version(cls, version: str) -> str:
        parse_version(version)
        return version


class K3sSettings(K3sRelease):
    """How K3s runs on a node."""

    runtime: Literal["docker", "containerd"]
    disable: list[str]
    config: dict[str, Any]
    server_config: dict[str, Any]
    agent_config: dict[str, Any]
    registries: dict[str, Any]
    start_seconds: Seconds
    drain_seconds: Seconds

    @field_validator("config", "server_config", "agent_config")
    @classmethod
    def _is_ours_to_keep(cls, config: dict[str, Any]) -> dict[str, Any]:
        # K3s takes "key+" for one that adds to a list.
        found = [f"{key}: {REFUSED_KEYS[name]}" for key in config if (name := key.removesuffix("+")) in REFUSED_KEYS]
        if found:
            raise ValueError("; ".join(found))
        return config


class Proxy(Topic):
    """The proxy through which a node reaches the world."""

    http_proxy: str | None
    https_proxy: str | None
    no_proxy: list[str]

    def environment(self, nodes: Iterable[str]) -> dict[str, str]:
        """Given the addresses of the nodes, return the variables that curl and K3s read; none without a proxy."""
        proxies = {"HTTP_PROXY": self.http_proxy, "HTTPS_PROXY": self.https_proxy}
        found = {name: value for name, value in proxies.items() if value}
        if not found:
            return {}
        direct = ["127.0.0.1", "localhost", *nodes, *CLUSTER_NETWORKS, *self.no_proxy]
        return {**found, "NO_PROXY": ",".join(dict.fromkeys(direct))}


class ClusterSettings(Topic):
    """The parts of a cluster that can be left out."""

    node_enabled: bool
    gpu_operator_enabled: bool
    network_operator_enabled: bool


# Operators ------------------------------------------------------------------------------------------------------------


class HelmSettings(Topic):
    """Which helm, and where it comes from."""

    prefix = "helm_"
    version: Annotated[str, StringConstraints(pattern=r"^v\d+\.\d+\.\d+$")]
    sha256: dict[str, Digest]
    mirror: str


class ChartSettings(Topic):
    """Where the operators come from."""

    chart_repository: str
    rdma_plugin_repository: str
    rdma_plugin_version: str | None


class OperatorSettings(Topic):
    """Settings that both operators have."""

    version: ChartVersion
    sha256: Digest | None
    values: dict[str, Any]
    wait_seconds: Seconds

    @field_validator("values")
    @classmethod
    def _leaves_nfd_to_us(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "enabled" in (values.get("nfd") or {}) and brings_nfd(values):
            raise ValueError("nfd.enabled is decided by what the other operator brings: it may only be set to false")
        return values


class GpuOperatorSettings(OperatorSettings):
    """Settings of the GPU Operator."""

    prefix = "gpu_operator_"
    version: Annotated[ChartVersion, AfterValidator(works_on_gb10)]
    time_slicing: int | None = Field(ge=2)

    @field_validator("values")
    @classmethod
    def _never_disturbs_serving(cls, values: dict[str, Any]) -> dict[str, Any]:
        if (values.get("toolkit") or {}).get("enabled"):
            raise ValueError("toolkit.enabled would restart the Docker engine that serves: DGX OS brings the toolkit")
        if ((values.get("driver") or {}).get("rdma") or {}).get("enabled"):
            raise ValueError("driver.rdma.enabled is GPUDirect RDMA, which GB10 does not support")
        return values


class NetworkOperatorSettings(OperatorSettings):
    """Settings of the Network Operator."""

    prefix = "network_operator_"


# Nodes ----------------------------------------------------------------------------------------------------------------


class SshSettings(Topic):
    """How the controller reaches a host: settings of pyinfra's SSH connector."""

    prefix = "ssh_"
    hostname: Text = None
    port: int = Field(default=22, gt=0, lt=65536)
    user: Text = None
    key: Text = None
    known_hosts_file: Text = None
    config_file: Text = None


class RailSettings(BaseModel):
    """One entry of a host's `rails`."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # other parts may know more about a rail

    interface: InterfaceName
    address: str

    @property
    def ip(self) -> str:
        """The address without its prefix."""
        return self.address.partition("/")[0]

    @field_validator("address")
    @classmethod
    def _has_prefix(cls, address: str) -> str:
        return str(ip_interface(address if "/" in address else f"{address}/{DEFAULT_PREFIX}"))


class HostSettings(Topic):
    """A host's name in Kubernetes, and its address on the management network, where pyinfra's are others."""

    node_name: Text = None
    node_ip: Text = None


class RailsSettings(Topic):
    """Both halves of a host's ConnectX-7: name -> half."""

    rails: dict[str, RailSettings] = {}

    @field_validator("rails")
    @classmethod
    def _are_apart(cls, rails: dict[str, RailSettings]) -> dict[str, RailSettings]:
        if len({rail.interface for rail in rails.values()}) < len(rails):
            raise ValueError("two rails have the same interface")
        networks = [ip_interface(rail.address).network for rail in rails.values()]
        if any(a.overlaps(b) for number, a in enumerate(networks) for b in networks[number + 1 :]):
            raise ValueError("two rails are in one subnet; each half of a port needs a subnet of its own")
        return rails


class ServingCare(Topic):
    """Which containers count as serving, and if they may be disturbed."""

    prefix = "node_"
    serving_containers: list[str]
    restart_while_serving: bool


class NodeSystem(Topic):
    """Who may log in, and the names of the nodes. Booleans switch parts."""

    prefix = "node_"
    user: bool
    user_name: UserName | None
    user_keys: list[Annotated[str, AfterValidator(public_key)]]
    sudo: bool
    hostname: bool
    hosts: bool


class NodeWorkplace(ServingCare):
    """Models, containers and performance. Booleans switch parts."""

    data: bool
    data_path: PlainPath
    data_folders: dict[FolderName, Mode]
    huggingface: bool
    huggingface_home: PlainPath
    docker: bool
    docker_config: dict[str, Any]
    performance: bool

    @property
    def hub(self) -> str:
        """The folder of the Hugging Face cache that holds the repositories."""
        return f"{self.huggingface_home}/hub"


class NodeNetwork(ServingCare):
    """Network settings that may cut the connection. Booleans switch parts."""

    rails: bool
    rails_mtu: int = Field(ge=1280, le=9978)
    sshd: bool
    firewall: bool
    firewall_allow: list[str]
    confirm_seconds: int = Field(ge=10, le=600)


class NodeSettings(NodeSystem, NodeWorkplace, NodeNetwork):
    """Settings of provisioning a node."""


# Images and models ----------------------------------------------------------------------------------------------------


class ImageSettings(Topic):
    """Which images a node must have."""

    images: list[ImageTag]


class ModelSettings(Topic):
    """Which models a node must have, and from which node it takes them."""

    models: list[RepositoryName]
    models_from: str | None


# Validation -----------------------------------------------------------------------------------------------------------


class ValidateSettings(Topic):
    """How nodes are validated."""

    prefix = "validate_"
    gpu_image: Word
    gpu_options: list[str]
    gpu_command: list[str] = Field(min_length=1)
    container_seconds: int = Field(gt=0, le=7200)
    bandwidth_seconds: int = Field(ge=1, le=30)
    nccl_image: Word | None
    nccl_options: list[str]
    nccl_command: list[str] | None = Field(min_length=1)
    nccl_megabytes: int = Field(ge=1, le=128)  # 16 GB have frozen a Spark
    nccl_floor_gbps: float = Field(ge=0)


# Backup, restore, rebuild ---------------------------------------------------------------------------------------------


class BackupSettings(Topic):
    """What goes into backups, where they are kept, and who can read them."""

    prefix = "backup_"
    paths: list[AbsolutePath]
    keepers: list[str] | None
    folder: AbsolutePath
    recipients: list[Word]
    identity_file: Text
    keep_count: int | None = Field(ge=1)
    keep_days: int | None = Field(ge=1)
    fresh_hours: float | None = Field(gt=0)


class RestoreSettings(Topic):
    """Which backup is restored, and which parts of it."""

    restore_from: str
    restore_only: list[Part] | None
    restore_accept: list[Acceptable]
    restore_known_hosts: bool


class RebuildSettings(Topic):
    """What a rebuild saves, waits for and calls."""

    prefix = "rebuild_"
    models: list[RepositoryName]
    solo_seconds: float = Field(ge=0)
    validate_seconds: float = Field(ge=0)
    validate_without: list[str]
    hooks: list[str]
    notify: str | None


# Serving --------------------------------------------------------------------------------------------------------------


class Launcher(BaseModel):
    """How a mode is started and recognised, where it is not vLLM by `docker run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: dict[Role, Word] = {}
    stop: dict[Role, Word] = {}
    recognise: list[Word] = []
    memory_gib: float = Field(default=0, ge=0)
    load_seconds: int | None = Field(default=None, gt=0)

    @field_validator("start", "stop", mode="before")
    @classmethod
    def _for_the_head(cls, given: Any) -> Any:
        return {"head": given} if isinstance(given, str) else given


class ModeSettings(Launcher):
    """One mode: vLLM by `docker run`, or any launcher by its own commands."""

    models: list[Word] = []  # the first is served; all must be on the nodes that serve
    image: Word | None = None
    images: list[Word] = []
    arguments: list[str] = []
    options: list[str] = []
    environment: dict[str, str] = {}
    served: Word | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.start) != bool(self.stop):
            raise ValueError("start and stop belong together")
        if not self.start and not self.models:
            raise ValueError("it names neither a model nor a start command")
        return self

    @property
    def name(self) -> str | None:
        """Served model name, or None if only the launcher knows it."""
        return self.served or (self.models[0] if self.models else None)


class ServingTimes(Topic):
    """How long a start, a stop and a completion of one token may take."""

    prefix = "serving_"
    load_seconds: Seconds
    stop_seconds: Seconds
    completion_seconds: float = Field(gt=0)


class ServingSettings(ServingTimes):
    """How models are served."""

    modes: dict[ModeName, ModeSettings]
    image: Word
    port: int = Field(gt=0, lt=65536)
    listen: Word | None
    api_key_file: PlainPath | None
    options: list[str]
    rdma_options: list[str]
    environment: dict[str, str]
    arguments: list[str]
    env_file: Word | None

    @property
    def marks(self) -> dict[str, list[str]]:
        """Mode -> patterns that recognise its engine, for modes that have some."""
        return {name: mode.recognise for name, mode in self.modes.items() if mode.recognise}

    def described(self, mode: str) -> ModeSettings | None:
        """Given whatever a node was found to do, return the mode of that name, or None."""
        return next((own for name, own in self.modes.items() if name == mode), None)

    def load_seconds_of(self, mode: ModeName) -> int:
        """Return how long a mode may take from its start to its first answer, described or not."""
        own = self.described(mode)
        return (own.load_seconds if own else None) or self.load_seconds

    def needs(self, modes: Iterable[str] = (CLUSTER, SOLO)) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Given modes, return the models and the images that must be on the nodes that serve in them."""
        chosen = [mode for name, mode in self.modes.items() if name in modes]
        models = [model for mode in chosen for model in mode.models]
        own = [image for mode in chosen for image in (mode.image or (None if mode.start else self.image),) if image]
        images = own + [image for mode in chosen for image in mode.images]
        return tuple(dict.fromkeys(models)), tuple(dict.fromkeys(images))


class ServingChoice(Topic):
    """The mode that is served, and the node for "solo"."""

    prefix = "serving_"
    mode: Literal["cluster", "solo", "off"] | None
    node: str | None


# All of them ----------------------------------------------------------------------------------------------------------

TOPICS: tuple[type[Topic], ...] = (
    *(PinSettings, K3sSettings, Proxy, ClusterSettings, HelmSettings),
    *(ChartSettings, GpuOperatorSettings, NetworkOperatorSettings),
    *(SshSettings, HostSettings, RailsSettings, NodeSettings, ImageSettings, ModelSettings, ValidateSettings),
    *(BackupSettings, RestoreSettings, RebuildSettings, ServingSettings, ServingChoice),
)
# Every setting that gb10 reads -> its topic.
SETTINGS = {f"{topic.prefix}{key}": topic for topic in TOPICS for key in topic.model_fields}

AnyTopic = TypeVar("AnyTopic", bound=Topic)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Given a misspelt name, return ": did you mean ...?" with the nearest known one; "" where none is near."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {nearest[0]}?" if nearest else ""


class SettingsError(ValueError):
    """Invalid settings, each with the reason."""


@dataclass(frozen=True)
class Settings:
    """The settings of one host: those of its inventory over the defaults of group_data/all.py.

    Raises SettingsError for what is no setting.
    """

    said: Mapping[str, Any] = field(default_factory=dict)  # setting -> value

    def __post_init__(self) -> None:
        if unknown := [name for name in self.said if name not in SETTINGS]:
            raise SettingsError("; ".join(f"{name} is no setting{did_you_mean(name, SETTINGS)}" for name in unknown))

    def read(self, topic: type[AnyTopic], /, **instead: Any) -> AnyTopic:
        """
        Return a topic. Raise SettingsError for what cannot be.

        + instead: values of fields that count instead of what the inventory says, unless they are None
        """
        given = {key: value for key, value in instead.items() if value is not None}
        values = {key: value for key in topic.model_fields for value in self._values(topic, key)}
        try:
            return topic(**{**values, **given})
        except ValidationError as error:
            raise SettingsError("; ".join(_reason(topic, item, given) for item in error.errors())) from error

    def _values(self, topic: type[Topic], key: str) -> Iterable[Any]:
        """Yield the value of a field, or nothing where the model itself has a default."""
        name = topic.prefix + key
        # None means "not set" for a setting that cannot be None.
        if name in self.said and (self.said[name] is not None or _may_be_none(topic, key)):
            yield self.said[name]
        elif hasattr(defaults, name):
            yield getattr(defaults, name)


def settings_of(data: Mapping[str, Any], topic: type[AnyTopic], /, **instead: Any) -> AnyTopic:
    """Return a topic of a host's settings; `data` is its data in the inventory. See Settings.read."""
    return Settings({name: value for name, value in data.items() if name in SETTINGS}).read(topic, **instead)


def _may_be_none(topic: type[Topic], key: str) -> bool:
    return NoneType in get_args(topic.model_fields[key].annotation)


def _reason(topic: type[Topic], item: Any, given: Mapping[str, Any]) -> str:
    """Return the setting (or argument) of a pydantic error and what is wrong with it, without its value."""
    key, *deeper = map(str, item["loc"])
    path = ".".join([key if key in given else topic.prefix + key, *deeper])
    if item["type"] != "extra_forbidden":
        return f"{path}: {item['msg'].removeprefix('Value error, ')}"
    known = ModeSettings.model_fields if deeper else topic.model_fields
    return f"{path}: there is no such {'key' if deeper else 'setting'}{did_you_mean((key, *deeper)[-1], known)}"
