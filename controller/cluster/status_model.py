"""The state of the cluster in one model, behind the table and `--json` alike. docs/status.md describes every field.

The contract: within one `schema_version` fields are added, never renamed or removed. None means absent or unknown; the
field's description says which. Nothing here is secret.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of all parts: immutable, with a description of every field."""

    model_config = ConfigDict(frozen=True)


class K3sStatus(Model):
    """The K3s installation of a node, as systemd and the binary report it."""

    version: str | None = Field(description="version of the binary, such as v1.36.4+k3s1; null if it does not answer")
    role: str | None = Field(description="server or agent, according to its systemd unit")
    unit_state: str | None = Field(description="ActiveState of its systemd unit: active, activating, failed ...")
    unit_enabled: bool = Field(default=False, description="whether it starts with the node")
    stale: bool = Field(default=False, description="whether its files have changed since it started")


class KubernetesStatus(Model):
    """A node as the API server sees it."""

    ready: bool = Field(description="its condition Ready")
    cordoned: bool = Field(description="whether Kubernetes schedules no new pods on it")
    roles: tuple[str, ...] = Field(description="its roles, such as control-plane")
    version: str = Field(description="version of its kubelet")
    runtime: str = Field(description="its container runtime and version")
    addresses: dict[str, list[str]] = Field(description="addresses by type: InternalIP, Hostname ...")
    reason: str | None = Field(default=None, description="why it is not ready")
    allocatable: dict[str, str] = Field(default={}, description="its allocatable resources, as Kubernetes quantities")


class GpuStatus(Model):
    """The GPU of a node, as nvidia-smi reports it."""

    name: str | None = Field(description="name of the first GPU, such as NVIDIA GB10")
    count: int = Field(description="number of GPUs")
    driver_version: str | None = Field(description="version of the NVIDIA driver")
    cuda_version: str | None = Field(description="newest CUDA version that the driver supports")
    memory_total_mib: int | None = Field(description="memory of the node, which a GB10 shares with its GPU")
    memory_available_mib: int | None = Field(description="memory available to a new process")
    processes: int | None = Field(description="number of processes that compute on it; null if unknown")
    trouble: str | None = Field(default=None, description="output of nvidia-smi if it failed")


class HalfStatus(Model):
    """One of the two halves of a ConnectX-7 port."""

    rail: str | None = Field(description="its rail in the inventory")
    interface: str | None = Field(description="network interface")
    device: str | None = Field(description="RDMA device")
    port: int | None = Field(description="QSFP port; 0 is the one next to the RJ45 socket")
    up: bool = Field(description="whether it carries traffic")
    state: str | None = Field(description="state of the RDMA link: ACTIVE, DOWN, INIT ...")
    physical_state: str | None = Field(description="physical state of the link: LINK_UP, POLLING, DISABLED ...")
    rate_gbps: float | None = Field(description="nominal rate in Gb/s; unreliable while the link is down")
    mtu_bytes: int | None = Field(description="MTU of the interface")
    addresses: tuple[str, ...] | None = Field(description="addresses of the interface, with prefix length")


class PortStatus(Model):
    """A physical port of the ConnectX-7."""

    number: int = Field(description="QSFP port")
    ready: bool = Field(description="whether both halves are up, in two subnets, with the same MTU")
    faults: tuple[str, ...] = Field(
        description="why it is not at full speed: half_missing, half_down, no_address, same_subnet, mtu_mismatch"
    )


class ConnectX7Status(Model):
    """The ConnectX-7 of a node."""

    halves: tuple[HalfStatus, ...] = Field(description="all halves, ordered by port and device")
    ports: tuple[PortStatus, ...] = Field(description="all physical ports, including those without a cable")


class DgxStatus(Model):
    """The release of DGX OS."""

    version: str | None = Field(description="running version: that of the last over-the-air update, or of the image")
    name: str | None = Field(description="product name, such as DGX Spark")
    factory_version: str | None = Field(description="version of the installed image")
    ota_version: str | None = Field(description="version of the last over-the-air update; null before the first")
    ota_date: str | None = Field(description="date of the last over-the-air update")


class NodeAnswer(Model):
    """A node of the inventory, and whether it answered."""

    name: str = Field(description="name in the inventory")
    node_name: str = Field(default="", description="name in Kubernetes")
    group: Literal["head", "workers"] | None = Field(
        description="its group in the inventory; null if neither head nor workers"
    )
    reachable: bool = Field(description="whether it answered")
    problem: str | None = Field(default=None, description="why it did not answer, or what could not be read")


class NodeStatus(NodeAnswer):
    """A node of the inventory."""

    hostname: str | None = Field(default=None, description="hostname that the node reports")
    architecture: str | None = Field(default=None, description="arm64 or amd64")
    os: str | None = Field(default=None, description="name and version of its operating system")
    k3s: K3sStatus | None = Field(default=None, description="null without K3s")
    kubernetes: KubernetesStatus | None = Field(default=None, description="null if it is no node of the cluster")
    gpu: GpuStatus | None = Field(default=None, description="null without nvidia-smi")
    connectx7: ConnectX7Status | None = Field(default=None, description="null without a ConnectX-7")
    dgx: DgxStatus | None = Field(default=None, description="null without /etc/dgx-release")


class OperatorState(Model):
    """Whether an operator is installed and ready, as its Helm release and its policy say."""

    installed: bool = Field(description="whether helm has a release of it, or its policy exists")
    ready: bool = Field(description="whether its policy reports ready, and every node offers its resource")
    release: str | None = Field(description="status of its Helm release: deployed, failed, pending-install ...")
    chart_version: str | None = Field(description="chart version of that release")
    state: str | None = Field(description="state of its policy: ready, notReady ...; null until it reports one")


class OperatorStatus(OperatorState):
    """One of NVIDIA's operators."""

    resource: str = Field(description="resource that every node offers when the operator is ready")
    offered: dict[str, str] = Field(description="amount that each node of Kubernetes offers")
    pods: int = Field(description="number of pods in its namespace")
    healthy_pods: int = Field(description="number of those pods that run or have completed")
    restarts: int = Field(description="restarts of all containers of these pods")
    reasons: tuple[str, ...] = Field(default=(), description="why it is not ready")


ServingMode = Literal["cluster", "solo", "off", "undecided"]


class NodeServingStatus(Model):
    """What serves on a node."""

    node: str = Field(description="name in the inventory")
    mode: ServingMode | None = Field(description="mode of its engines; null if the node could not be read")
    engines: int = Field(default=0, description="number of processes that serve, or work for one that does")
    youngest_seconds: float | None = Field(default=None, description="seconds since the youngest of them started")
    containers: tuple[str, ...] = Field(default=(), description="containers in which they run")
    health: str | None = Field(
        default=None,
        description="health of the server on its port: none (nothing listens), up, dead, silent, or its HTTP status",
    )
    models: tuple[str, ...] = Field(default=(), description="models that the server offers")
    completion: bool | None = Field(default=None, description="whether it completes a prompt; null if not tried")
    trouble: str | None = Field(default=None, description="why the mode is unknown, or what the server did wrong")


class ServingStatus(Model):
    """What all nodes together serve."""

    mode: ServingMode = Field(description="cluster, solo, off, or undecided if it cannot be determined")
    node: str | None = Field(default=None, description="node that answers, or should answer; null if nothing serves")
    address: str | None = Field(default=None, description="base URL of the API")
    healthy: bool = Field(description="whether it answers correctly; false also if nothing serves")
    loading: bool = Field(default=False, description="whether engines run but nothing listens yet")
    models: tuple[str, ...] = Field(default=(), description="models that are offered")
    reasons: tuple[str, ...] = Field(default=(), description="why it is undecided, or does not answer correctly")
    warnings: tuple[str, ...] = Field(default=(), description="who may use the API, which container may write models")
    nodes: tuple[NodeServingStatus, ...] = Field(default=(), description="all nodes that were read")

    @property
    def summary(self) -> str:
        """One line for a person."""
        if self.mode == "off":
            return "nothing is served"
        if self.mode == "undecided":
            return "it is unclear what is served"
        where = "over all nodes" if self.mode == "cluster" else f"on {self.node} alone"
        return f"{', '.join(self.models) or 'no model yet'} {where}, at {self.address}"


class ClusterStatus(Model):
    """The cluster. `notes` names optional parts that are absent: they do not make it unhealthy."""

    schema_version: Literal[1] = Field(default=1, description="changes when a field is removed or changes its meaning")
    healthy: bool = Field(description="whether there are no reasons against it")
    reasons: tuple[str, ...] = Field(default=(), description="why it is not healthy")
    remedies: tuple[str, ...] = Field(default=(), description="what to type next")
    warnings: tuple[str, ...] = Field(default=(), description="what deserves attention but does not make it unhealthy")
    notes: tuple[str, ...] = Field(default=(), description="optional parts that are absent")
    nodes: tuple[NodeStatus, ...] = Field(description="the nodes, in the order of the inventory")
    gpu_operator: OperatorStatus | None = Field(default=None, description="null if no API server answers")
    network_operator: OperatorStatus | None = Field(default=None, description="null if no API server answers")
    serving: ServingStatus | None = Field(default=None, description="null if the inventory describes no serving modes")
