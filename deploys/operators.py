"""helm on the head, and NVIDIA's operators in the cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.operators import Operator
from gb10.group_data.settings import (
    ChartSettings,
    GpuOperatorSettings,
    HelmSettings,
    K3sSettings,
    NetworkOperatorSettings,
    OperatorSettings,
)
from gb10.operations import helm as operations
from gb10.operations import operators, pins
from gb10.operations.kit.helm import Release, with_nfd
from gb10.operations.kit.inventory import HEAD, deploy, downloads_proxy, is_in, nodes, read_settings
from gb10.operations.kit.pins import Download
from gb10.operations.operators import GPU, NETWORK, links_by_host
from gb10.templates import render


@deploy("Helm", HelmSettings)
def helm(**overrides: Any) -> None:
    """
    Have helm on the head.

    + overrides: keys of group_data/all.py without their prefix: version, sha256, mirror
    """
    if is_in(HEAD):
        install_helm(helm_client(**overrides))


def helm_client(**overrides: Any) -> operations.Client:
    """Return the helm for this host. Raise RefusedDeploy for invalid settings."""
    settings = read_settings(HelmSettings, **overrides)
    return operations.Client(settings.version, settings.mirror, settings.sha256, downloads_proxy())


def install_helm(client: operations.Client) -> None:
    """Install helm on this host, once in a run, however many deploys need it."""
    if not host.data.get("gb10_helm"):
        host.data.gb10_helm = True
        operations.binary(name="Install helm", client=client)


def install_chart(
    title: str, operator: Operator, settings: OperatorSettings, ours: Callable[[], Mapping[str, Any]], repair: bool
) -> None:
    """Have an operator's chart in the cluster, from this host, with our values and over them those of the inventory."""

    def values(releases: Sequence[HelmRelease]) -> dict[str, Any]:
        return with_nfd(operator, ours(), settings.values, releases)

    wanted = wanted_release(operator, settings)
    pins.all_pinned(name=f"Check the pins of the {title}", downloads=chart_downloads(wanted))
    install_helm(helm_client())
    operations.release(
        name=f"Install the {title} {settings.version}",
        wanted=wanted,
        values=values,
        seconds=settings.wait_seconds,
        repair=repair,
        values_key=f"{operator.release.replace('-', '_')}_values",
        proxy=downloads_proxy(),
    )


def wanted_release(operator: Operator, settings: OperatorSettings) -> Release:
    """Return the release of an operator."""
    return Release(
        name=operator.release,
        namespace=operator.namespace,
        chart=operator.release,
        version=settings.version,
        repository=read_settings(ChartSettings).chart_repository,
        sha256=settings.sha256,
    )


def chart_downloads(*wanted: Release) -> Callable[[], list[Download]]:
    """Return a function that returns what this host lacks for releases."""
    return functools.partial(operations.lacking_charts, helm_client(), wanted)


def remove_chart(title: str, operator: Operator, settings: OperatorSettings, purge: bool) -> None:
    """Have nothing of an operator in the cluster."""
    operations.uninstalled(
        name=f"Uninstall the {title}",
        release_name=operator.release,
        namespace=operator.namespace,
        client=helm_client(),
        seconds=settings.wait_seconds,
    )
    operators.removed(name=f"Remove what the {title} left", operator=operator, purge=purge)


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
        remove_chart("GPU Operator", GPU, read_settings(GpuOperatorSettings), purge)


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


@deploy("Network Operator", NetworkOperatorSettings)
def network_operator(repair: bool = False, **overrides: Any) -> None:
    """
    Have the Network Operator in the cluster, and every node offering its RDMA devices.

    + repair: take back what a killed helm left behind
    + overrides: keys of group_data/all.py without their prefix: version, values ...

    The OFED driver is that of DGX OS. Hosts outside the group `head` are left alone, and so is a cluster in which no
    node has a ConnectX-7.
    """
    if not is_in(HEAD):
        return
    settings, members = read_settings(NetworkOperatorSettings, **overrides), nodes()
    if any(found and found.links for found in links_by_host(members).values()):
        install_network_operator(settings, members, repair)
    else:
        operators.without_connectx7(name="Look for a ConnectX-7", nodes=members)


@deploy("Network Operator teardown")
def network_operator_teardown(purge: bool = False) -> None:
    """
    Have nothing of the Network Operator in the cluster: no policy, release, definition, namespace or webhook.

    + purge: also what may be somebody else's
    """
    if is_in(HEAD):
        operators.no_policy(name="Remove the nic-cluster-policy", operator=NETWORK)
        remove_chart("Network Operator", NETWORK, read_settings(NetworkOperatorSettings), purge)


def install_network_operator(settings: NetworkOperatorSettings, nodes: list[Host], repair: bool) -> None:
    """Install it on the head, write its policy, and wait for it."""
    charts = read_settings(ChartSettings)
    install_chart("Network Operator", NETWORK, settings, network_operator_values, repair)
    operators.nic_cluster_policy(
        name="Write the nic-cluster-policy",
        nodes=nodes,
        repository=charts.rdma_plugin_repository,
        version=charts.rdma_plugin_version or plugin_version(settings.version),
    )
    operators.ready(name="Wait for the Network Operator", operator=NETWORK, amount=1, seconds=settings.wait_seconds)


def network_operator_values() -> dict[str, Any]:
    """Return the values of the chart that differ."""
    values: dict[str, Any] = yaml.safe_load(render("operators/network-operator-values.yaml.j2"))
    return values


def plugin_version(version: str) -> str:
    """Given a version of the chart, return the tag of the device plugin's image that belongs to it."""
    return f"network-operator-v{version.removeprefix('v')}"
