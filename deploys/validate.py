"""Proof that the nodes do what they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pyinfra.api import deploy
from pyinfra.context import host

from gb10.deploys.settings import checked, value
from gb10.operations import validate as operations

Word = Annotated[str, StringConstraints(min_length=1)]


class ValidateSettings(BaseModel):
    """How nodes are validated: the keys of group_data/all.py, without their prefix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


@deploy("Validate")
def validate(
    gpu: bool = True,
    pairs: Mapping[str, str] | None = None,
    nccl: Sequence[str] = (),
    while_serving: bool = False,
    **overrides: Any,
) -> None:
    """
    Prove that a container can use the GPU of each node, and what the rails between nodes carry.

    + gpu: whether to run the containers
    + pairs: node -> the node towards which its rails are measured; None: all nodes in a ring
    + nccl: nodes that do an all-reduce together; none without any
    + while_serving: load the rails even while a container runs that may be serving
    + overrides: keys of group_data/all.py without their prefix `validate_`

    Only throw-away containers and listeners are started, which are gone afterwards; images that were pulled stay.
    """
    settings = validate_settings(**overrides)
    patterns = list(value("node_serving_containers"))
    if gpu:
        operations.gpu_container(
            name="Run a container on the GPU",
            image=settings.gpu_image,
            options=settings.gpu_options,
            command=settings.gpu_command,
            seconds=settings.container_seconds,
        )
    peer = (_ring() if pairs is None else pairs).get(host.name)
    if peer:
        operations.rail_bandwidth(
            name="Measure the rails",
            peer=peer,
            seconds=settings.bandwidth_seconds,
            mtu=int(value("node_rails_mtu")) if value("node_rails") else None,
            patterns=patterns,
            while_serving=while_serving,
            _serial=True,
        )
    if nccl and nccl[0] == host.name:
        have_all_reduce(settings, nccl, patterns, while_serving)
    operations.verdict(name="Look back at the checks")


def have_all_reduce(
    settings: ValidateSettings, nodes: Sequence[str], patterns: Sequence[str], while_serving: bool
) -> None:
    """The all-reduce between nodes, where an image for it is set."""
    if settings.nccl_image:
        operations.all_reduce(
            name=f"All-reduce between {len(nodes)} nodes",
            nodes=list(nodes),
            settings=operations.AllReduce(
                image=settings.nccl_image,
                options=tuple(settings.nccl_options),
                command=tuple(settings.nccl_command) if settings.nccl_command else None,
                megabytes=settings.nccl_megabytes,
                floor_gbps=settings.nccl_floor_gbps,
                seconds=settings.container_seconds,
            ),
            patterns=patterns,
            while_serving=while_serving,
        )


def validate_settings(**overrides: Any) -> ValidateSettings:
    """Given a deploy's own arguments, return this host's settings. Raise DeployError for what cannot be."""
    values = {name: value(f"validate_{name}") for name in ValidateSettings.model_fields}
    return checked(ValidateSettings, {**values, **overrides})


def _ring() -> dict[str, str]:
    """Every node with rails towards the next one."""
    names = [node.name for node in host.inventory if node.data.get("rails")]
    return dict(zip(names, [*names[1:], *names[:1]], strict=True)) if len(names) > 1 else {}
