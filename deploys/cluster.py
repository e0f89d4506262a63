"""The whole cluster in one run, and in strict order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gb10.deploys.k3s import check_k3s, install_k3s
from gb10.deploys.node import node
from gb10.deploys.operators import chart_downloads, gpu_operator, network_operator, wanted_release
from gb10.group_data.settings import ClusterSettings, GpuOperatorSettings, K3sSettings, NetworkOperatorSettings
from gb10.operations import k3s, pins
from gb10.operations.kit.inventory import HEAD, WORKERS, deploy, head, is_in, k3s_role, read_settings
from gb10.operations.kit.pins import Download
from gb10.operations.operators import GPU, NETWORK


@deploy("Cluster", K3sSettings)
def cluster(repair: bool = False, **overrides: Any) -> None:
    """
    Have the whole cluster up: nodes, the server on the head, agents on the workers, then NVIDIA's operators.

    + repair: take back what a killed helm left behind
    + overrides: keys of group_data/all.py for K3s, without their prefix: version, runtime, config ...

    Nodes are provisioned only with `node_enabled`, and each operator may be left out: `gpu_operator_enabled`,
    `network_operator_enabled`. pyinfra interleaves the operations of different hosts, but for those that all of them
    share: such ones stand between the parts, so that no agent starts before the server answers, and no operator before
    the agents have joined. Hosts outside the groups `head` and `workers` are left alone, but share those.
    """
    settings, parts = read_settings(K3sSettings, **overrides), read_settings(ClusterSettings)
    if parts.node_enabled and k3s_role():
        node()
    if k3s_role():
        pins.all_pinned(name="Check the pins", downloads=_downloads(settings, parts))
    check_k3s(k3s_role(), settings)
    if is_in(HEAD):
        install_k3s("server", settings)
    k3s.server_answers(name="Wait for the K3s server", head=head(), seconds=settings.start_seconds)
    if is_in(WORKERS):
        install_k3s("agent", settings)
    k3s.all_reached(name="Wait for the workers")
    if parts.gpu_operator_enabled:
        gpu_operator(repair=repair, runtime=settings.runtime)
    if parts.network_operator_enabled:
        network_operator(repair=repair)


def _downloads(settings: K3sSettings, parts: ClusterSettings) -> Callable[[], list[Download]]:
    """Return a function that returns what this host lacks for the whole cluster."""
    charts = []
    if is_in(HEAD) and parts.gpu_operator_enabled:
        charts.append(wanted_release(GPU, read_settings(GpuOperatorSettings)))
    if is_in(HEAD) and parts.network_operator_enabled:
        charts.append(wanted_release(NETWORK, read_settings(NetworkOperatorSettings)))
    operators = chart_downloads(*charts) if charts else list

    def downloads() -> list[Download]:
        binary = k3s.lacking_binary(settings.version, settings.mirror, settings.pins, settings.airgap)
        return [*binary, *operators()]

    return downloads
