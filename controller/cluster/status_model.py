"""The state of the cluster in one model, behind the table and `--json` alike. docs/status.md describes every field.

The contract: fields are added, never renamed or removed, within one `schema_version`. None means absent, or that nobody
can tell; what of the two, the field's description says. Nothing secret has a place here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """What all parts have in common: they do not change, and every field is described."""

    model_config = ConfigDict(frozen=True)


class K3sStatus(Model):
    """What of K3s is installed on a node, as systemd and the binary say."""

    version: str | None = Field(description="of the binary, such as v1.36.4+k3s1; null without one that answers")
    role: str | None = Field(description="server or agent, by the unit that is there")
    unit_state: str | None = Field(description="ActiveState of the unit in systemd: active, activating, failed ...")
    unit_enabled: bool = Field(default=False, description="whether it starts with the node")
    stale: bool = Field(default=False, description="whether it runs with files that have changed since it started")


class KubernetesStatus(Model):
    """A node as the API server sees it."""

    ready: bool = Field(description="its condition Ready")
    cordoned: bool = Field(description="whether new pods are kept away")
    roles: tuple[str, ...] = Field(description="its roles, such as control-plane")
    version: str = Field(description="of its kubelet")
    runtime: str = Field(description="its container runtime and version")
    addresses: dict[str, list[str]] = Field(description="addresses by type: InternalIP, Hostname ...")
    reason: str | None = Field(default=None, description="why it is not ready")
    allocatable: dict[str, str] = Field(default={}, description="what pods may have of it, in Kubernetes' quantities")


class GpuStatus(Model):
    """The GPU of a node, as nvidia-smi says."""

    name: str | None = Field(description="of the first GPU: NVIDIA GB10")
    count: int = Field(description="how many GPUs there are")
    driver_version: str | None = Field(description="of NVIDIA's driver")
    cuda_version: str | None = Field(description="the newest that the driver supports")
    memory_total_mib: int | None = Field(description="the node's memory, which a GB10 shares with its GPU")
    memory_available_mib: int | None = Field(description="what of it a new process could have")
    processes: int | None = Field(description="how many processes compute on it; null where nvidia-smi does not tell")
    trouble: str | None = Field(default=None, description="what nvidia-smi said when it failed")


class HalfStatus(Model):
    """One of the two halves of a ConnectX-7 port."""

    rail: str | None = Field(description="the rail that the inventory makes of it")
    interface: str | None = Field(description="network interface")
    device: str | None = Field(description="RDMA device")
    port: int | None = Field(description="QSFP port; 0 is the one next to the RJ45 socket")
    up: bool = Field(description="whether it carries traffic")
    state: str | None = Field(description="of the RDMA link: ACTIVE, DOWN, INIT ...")
    physical_state: str | None = Field(description="likewise: LINK_UP, POLLING, DISABLED ...")
    rate_gbps: float | None = Field(description="what the link claims, in Gb/s; says little while it is down")
    mtu_bytes: int | None = Field(description="of the interface")
    addresses: tuple[str, ...] | None = Field(description="of the interface, with prefix length")


class PortStatus(Model):
    """A physical port of the ConnectX-7."""

    number: int = Field(description="QSFP port")
    ready: bool = Field(description="whether both halves are up, on two subnets, with equal MTU")
    faults: tuple[str, ...] = Field(
        description="what keeps it from full speed: half_missing, half_down, no_address, same_subnet, mtu_mismatch"
    )


class ConnectX7Status(Model):
    """The ConnectX-7 of a node."""

    halves: tuple[HalfStatus, ...] = Field(description="every half, in order of port and device")
    ports: tuple[PortStatus, ...] = Field(description="the physical ports, also those without a cable")


class DgxStatus(Model):
    """The release of DGX OS."""

    version: str | None = Field(description="what runs: of the last update over the air, or of the image")
    name: str | None = Field(description="such as DGX Spark")
    factory_version: str | None = Field(description="of the image that was installed")
    ota_version: str | None = Field(description="of the last update over the air; null before the first")
    ota_date: str | None = Field(description="when that was")


class NodeAnswer(Model):
    """A node of the inventory, and whether it answered."""

    name: str = Field(description="in the inventory")
    node_name: str = Field(default="", description="in Kubernetes")
    group: Literal["head", "workers"] | None = Field(description="of the inventory: head, workers, or neither")
    reachable: bool = Field(description="whether it answered")
    problem: str | None = Field(default=None, description="why it did not, or what could not be read")


class NodeStatus(NodeAnswer):
    """A node of the inventory."""

    hostname: str | None = Field(default=None, description="as the node calls itself")
    architecture: str | None = Field(default=None, description="arm64 or amd64")
    os: str | None = Field(default=None, description="name and version of its system")
    k3s: K3sStatus | None = Field(default=None, description="null without K3s")
    kubernetes: KubernetesStatus | None = Field(default=None, description="null where the cluster does not know it")
    gpu: GpuStatus | None = Field(default=None, description="null without nvidia-smi")
    connectx7: ConnectX7Status | None = Field(default=None, description="null without a ConnectX-7")
    dgx: DgxStatus | None = Field(default=None, description="null without /etc/dgx-release")


class OperatorState(Model):
    """Whether an operator is installed and ready, as its Helm release and its policy say."""

    installed: bool = Field(description="whether helm has a release of it, or its policy exists")
    ready: bool = Field(description="whether its policy says so, and every node offers its resource")
    release: str | None = Field(description="status of helm's release: deployed, failed, pending-install ...")
    chart_version: str | None = Field(description="of that release")
    state: str | None = Field(description="of its policy: ready, notReady ...; null until the operator reported one")


class OperatorStatus(OperatorState):
    """One of NVIDIA's operators."""

    resource: str = Field(description="what every node offers when it is ready")
    offered: dict[str, str] = Field(description="how much of it each node of Kubernetes offers")
    pods: int = Field(description="how many pods its namespace has")
    healthy_pods: int = Field(description="how many of them work, or have done their work")
    restarts: int = Field(description="of all containers of these pods")
    reasons: tuple[str, ...] = Field(default=(), description="why it is not ready")


ServingMode = Literal["cluster", "solo", "off", "undecided"]


class NodeServingStatus(Model):
    """What serves on a node."""

    node: str = Field(description="in the inventory")
    mode: ServingMode | None = Field(description="of its engines; null where the node could not be asked")
    engines: int = Field(default=0, description="how many processes serve, or work for one that does")
    youngest_seconds: float | None = Field(default=None, description="how long the youngest of them has been running")
    containers: tuple[str, ...] = Field(default=(), description="those that they run in")
    health: str | None = Field(
        default=None,
        description="of the server on its port: none (nothing listens), up, dead, silent, or the status that it sent",
    )
    models: tuple[str, ...] = Field(default=(), description="that the server offers")
    completion: bool | None = Field(default=None, description="whether it completes a prompt; null: not asked")
    trouble: str | None = Field(default=None, description="why nobody can tell, or what the server did wrong")


class ServingStatus(Model):
    """What all nodes together serve."""

    mode: ServingMode = Field(description="cluster, solo, off, or undecided: then nothing may be concluded")
    node: str | None = Field(default=None, description="that answers, or is to; null where nothing serves")
    address: str | None = Field(default=None, description="base URL of what answers")
    healthy: bool = Field(description="whether it answers as it should; false also where nothing serves")
    loading: bool = Field(default=False, description="whether nothing listens yet and engines run")
    models: tuple[str, ...] = Field(default=(), description="that are offered")
    reasons: tuple[str, ...] = Field(default=(), description="why it is undecided, or does not answer")
    nodes: tuple[NodeServingStatus, ...] = Field(default=(), description="each node that was asked")

    @property
    def summary(self) -> str:
        """In a line."""
        if self.mode == "off":
            return "nothing is served"
        if self.mode == "undecided":
            return "nobody can tell what is served"
        where = "over all nodes" if self.mode == "cluster" else f"on {self.node} alone"
        return f"{', '.join(self.models) or 'no model yet'} {where}, at {self.address}"


class ClusterStatus(Model):
    """The cluster. What is absent is named in `notes` and keeps nothing from being healthy."""

    schema_version: Literal[1] = Field(default=1, description="changes when a field changes its meaning or goes")
    healthy: bool = Field(description="whether there is no reason against it")
    reasons: tuple[str, ...] = Field(default=(), description="why it is not healthy, in words")
    remedies: tuple[str, ...] = Field(default=(), description="what to type next")
    warnings: tuple[str, ...] = Field(default=(), description="what is worth a look all the same")
    notes: tuple[str, ...] = Field(default=(), description="what is meant to be so, and what is absent")
    nodes: tuple[NodeStatus, ...] = Field(description="the nodes of the inventory, in its order")
    gpu_operator: OperatorStatus | None = Field(default=None, description="null where no API server answers")
    network_operator: OperatorStatus | None = Field(default=None, description="likewise")
    serving: ServingStatus | None = Field(default=None, description="null where the inventory describes no modes")
