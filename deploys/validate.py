"""Proof that the nodes do what they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra.context import host

from gb10.group_data.settings import NodeNetwork, ValidateSettings
from gb10.operations import validate as operations
from gb10.operations.kit.inventory import deploy, rails_of, read_settings


@deploy("Validate", ValidateSettings, changes_nodes=False)
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
    settings, network = read_settings(ValidateSettings, **overrides), read_settings(NodeNetwork)
    patterns = network.serving_containers
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
            mtu=network.rails_mtu if network.rails else None,
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


def _ring() -> dict[str, str]:
    """Every node with rails towards the next one."""
    names = [node.name for node in host.inventory if rails_of(node)]
    return dict(zip(names, [*names[1:], *names[:1]], strict=True)) if len(names) > 1 else {}
