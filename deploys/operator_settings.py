"""What an inventory says about helm and NVIDIA's operators, checked."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pyinfra.context import host

from gb10.deploys.settings import Digest, checked, node_ip, proxy, value
from gb10.operations.helm import Client
from gb10.operations.kit.charts import EXACT_VERSION, brings_nfd

OLDEST_FOR_GB10 = (25, 10, 0)

Model = TypeVar("Model", bound=BaseModel)
# Exact: helm would take the newest of a range, and what is deployed would never be what was wanted.
ChartVersion = Annotated[str, StringConstraints(pattern=f"^{EXACT_VERSION}$")]


def refused_on_gb10(version: str) -> str | None:
    """Given a version of the GPU Operator, say why it cannot work on GB10, or return None.

    Before v25.10.0 its device plugin cannot read the memory of a GB10 (NVIDIA/gpu-operator#1794). Raise ValueError for
    what is no version.
    """
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if not numbers:
        raise ValueError(f"{version!r} is no version of the GPU Operator: they look like v26.7.0")
    if tuple(map(int, numbers.groups())) < OLDEST_FOR_GB10:
        return f"GPU Operator {version} cannot read the memory of a GB10: take v25.10.0 or newer"
    return None


def _works_on_gb10(version: str) -> str:
    reason = refused_on_gb10(version)
    if reason:
        raise ValueError(reason)
    return version


class OperatorSettings(BaseModel):
    """What is to be said of either operator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: ChartVersion
    sha256: Digest | None
    values: dict[str, Any]
    wait_seconds: int = Field(gt=0)

    @field_validator("values")
    @classmethod
    def _leaves_nfd_to_us(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "enabled" in (values.get("nfd") or {}) and brings_nfd(values):
            raise ValueError("nfd.enabled is decided by what the other operator brings: it may only be set to false")
        return values


class GpuOperatorSettings(OperatorSettings):
    """How the GPU Operator is to be: the keys of group_data/all.py, without their prefix."""

    version: Annotated[ChartVersion, AfterValidator(_works_on_gb10)]
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
    """How the Network Operator is to be: the keys of group_data/all.py, without their prefix."""


class _HelmSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[str, StringConstraints(pattern=r"^v\d+\.\d+\.\d+$")]
    sha256: dict[str, Digest]
    mirror: str


def gpu_operator_settings(**overrides: Any) -> GpuOperatorSettings:
    """Given a deploy's own arguments, return this host's settings. Raise DeployError for what cannot be."""
    return _settings(GpuOperatorSettings, "gpu_operator", overrides)


def network_operator_settings(**overrides: Any) -> NetworkOperatorSettings:
    """Given a deploy's own arguments, return this host's settings. Raise DeployError for what cannot be."""
    return _settings(NetworkOperatorSettings, "network_operator", overrides)


def helm_client() -> Client:
    """Return the helm that this host is to have. Raise DeployError for what cannot be."""
    settings = _settings(_HelmSettings, "helm", {})
    return Client(settings.version, settings.mirror, settings.sha256, downloads_proxy())


def downloads_proxy() -> dict[str, str]:
    """Return the environment in which this host downloads."""
    return proxy().environment([node_ip(peer) for peer in host.inventory])


def _settings(model: type[Model], prefix: str, overrides: dict[str, Any]) -> Model:
    given = {name: overrides.get(name) for name in model.model_fields}
    values = {name: value(f"{prefix}_{name}") if said is None else said for name, said in given.items()}
    return checked(model, values | {name: said for name, said in overrides.items() if name not in given})
