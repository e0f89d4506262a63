"""NVIDIA's Network Operator in the cluster, and its end."""

from __future__ import annotations

from typing import Any

import yaml
from pyinfra.api import Host

from gb10.deploys.helm import helm_client, install_chart
from gb10.group_data.settings import ChartSettings, NetworkOperatorSettings
from gb10.operations import helm, operators
from gb10.operations.kit.inventory import HEAD, deploy, is_in, nodes, read_settings
from gb10.operations.operators import NETWORK, links_by_host
from gb10.templates import render


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
        helm.uninstalled(
            name="Uninstall the Network Operator",
            release_name=NETWORK.release,
            namespace=NETWORK.namespace,
            client=helm_client(),
            seconds=read_settings(NetworkOperatorSettings).wait_seconds,
        )
        operators.removed(name="Remove what the Network Operator left", operator=NETWORK, purge=purge)


def install_network_operator(settings: NetworkOperatorSettings, nodes: list[Host], repair: bool) -> None:
    """Install it on the head, say what it is to do, and wait for it."""
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
