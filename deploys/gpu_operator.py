"""NVIDIA's GPU Operator in the cluster, and its end."""

from __future__ import annotations

from typing import Any

import yaml
from pyinfra.context import host

from gb10.deploys.helm import helm_client, install_chart
from gb10.group_data.settings import GpuOperatorSettings, K3sSettings
from gb10.operations import helm, operators
from gb10.operations.kit.inventory import HEAD, deploy, is_in, nodes, read_settings
from gb10.operations.operators import GPU
from gb10.templates import render


@deploy("GPU Operator", GpuOperatorSettings)
def gpu_operator(repair: bool = False, runtime: str | None = None, **overrides: Any) -> None:
    """
    Have the GPU Operator in the cluster, and every node offering its GPU.

    + repair: take back what a killed helm left behind
    + runtime: of the pods, where this run sets it; None: what the cluster runs, and k3s_runtime before it is up
    + overrides: keys of group_data/all.py without their prefix: version, values, time_slicing ...

    Driver and container toolkit are those of DGX OS. Hosts outside the group `head` are left alone.
    """
    if is_in(HEAD):
        install_gpu_operator(read_settings(GpuOperatorSettings, **overrides), repair, runtime)


@deploy("GPU Operator teardown")
def gpu_operator_teardown(purge: bool = False) -> None:
    """
    Have nothing of the GPU Operator in the cluster: no release, definition, namespace or webhook.

    + purge: also what may be somebody else's
    """
    if is_in(HEAD):
        helm.uninstalled(
            name="Uninstall the GPU Operator",
            release_name=GPU.release,
            namespace=GPU.namespace,
            client=helm_client(),
            seconds=read_settings(GpuOperatorSettings).wait_seconds,
        )
        operators.removed(name="Remove what the GPU Operator left", operator=GPU, purge=purge)


def install_gpu_operator(settings: GpuOperatorSettings, repair: bool, runtime: str | None) -> None:
    """Install it on the head and wait for it."""
    otherwise = read_settings(K3sSettings).runtime

    def pods() -> str:
        return runtime or operators.pods_runtime() or otherwise

    def ours() -> dict[str, Any]:
        return gpu_operator_values(pods(), settings.time_slicing)

    operators.runtime_fits(
        name="Check the runtime of pods",
        nodes=nodes(),
        runtime=pods,
        provisions=bool(host.data.get("gb10_docker")),
    )
    install_chart("GPU Operator", GPU, settings, ours, repair)
    operators.ready(
        name="Wait for the GPU Operator",
        operator=GPU,
        amount=settings.time_slicing or 1,
        seconds=settings.wait_seconds,
    )


def gpu_operator_values(runtime: str, time_slicing: int | None) -> dict[str, Any]:
    """Given the runtime of the pods and how many may share a GPU, return the values of the chart that differ."""
    text = render("operators/gpu-operator-values.yaml.j2", runtime=runtime, time_slicing=time_slicing)
    values: dict[str, Any] = yaml.safe_load(text)
    return values
