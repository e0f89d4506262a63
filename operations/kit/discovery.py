"""Node feature discovery: exactly one of NVIDIA's operators brings it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra.context import host

from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.operators import GPU, NETWORK, Operator
from gb10.group_data.settings import brings_nfd
from gb10.operations.kit.charts import NFD_CHART, OPERATOR_CHARTS, find, merged, should_bring_nfd

OTHER = {GPU.release: NETWORK, NETWORK.release: GPU}


def with_nfd(
    operator: Operator, base: Mapping[str, Any], extra: Mapping[str, Any], releases: Sequence[HelmRelease]
) -> dict[str, Any]:
    """Given an operator's values, return them with node feature discovery on or off, and with `extra` over them.

    Both operators may be installed in one run: the one that brings it leaves a note for the other, also in a dry run.
    """
    taken = host.data.get("gb10_nfd")
    brings = taken in (None, operator.release) and discovers(operator, releases)
    nfd = {**base.get("nfd", {}), "enabled": brings}
    values = merged({**base, "nfd": nfd}, extra)
    if brings_nfd(values):
        host.data.gb10_nfd = operator.release
    elif taken == operator.release:
        host.data.gb10_nfd = None
    return values


def discovers(operator: Operator, releases: Sequence[HelmRelease]) -> bool:
    """Given the releases of the cluster, return True if an operator's release should bring node feature discovery.

    Rivals are known by their chart: those that somebody installed under another name never give way.
    """
    own, other = (find(releases, one.release, one.namespace) for one in (operator, OTHER[operator.release]))
    others = rivals(operator, releases)
    stubborn = any(brings_nfd(rival.values) for rival in others if rival is not other)
    return should_bring_nfd(own, others, keeps_it=operator is NETWORK and not stubborn)


def rivals(operator: Operator, releases: Sequence[HelmRelease]) -> list[HelmRelease]:
    """Return the releases that may bring node feature discovery, except the operator's own."""
    own = (operator.release, operator.namespace)
    there = (release for release in releases if release.chart in (*OPERATOR_CHARTS, NFD_CHART))
    return [one for one in there if one.status != "uninstalled" and (one.name, one.namespace) != own]


def left_without_nfd(operator: Operator, releases: Sequence[HelmRelease]) -> list[str]:
    """Given an operator that is gone, return the releases that have no node feature discovery any more."""
    others = rivals(operator, releases)
    if any(rival.chart == NFD_CHART or brings_nfd(rival.values) for rival in others):
        return []
    return [rival.name for rival in others]
