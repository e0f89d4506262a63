"""Releases of helm: how one differs from what is wanted, what helm's errors mean, who brings node feature discovery."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.context import host

from gb10.facts.operators import OperatorPods, OperatorWarnings
from gb10.facts.reading import operators
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.operators import GPU, NETWORK, Operator
from gb10.group_data.settings import brings_nfd
from gb10.operations.kit.inventory import merged

NFD_CHART = "node-feature-discovery"
# NVIDIA's, which may bring it. Of no other chart are the values read: they may hold somebody's secrets.
OPERATOR_CHARTS = ("gpu-operator", "network-operator")

# What helm 4 prints, and what it means; the first that is found counts. In the order of how much each one explains.
MEANINGS = (
    ("VALUES_REJECTED", r"values don't meet the specifications of the schema|error validating data"),
    ("VALUES_REJECTED", r"execution error at|error calling|cannot overwrite table|is invalid: spec"),
    ("HELM_PENDING", r"another operation \(install/upgrade/rollback\) is in progress|another helm of gb10 is at work"),
    ("SERVER_UNREACHABLE", r"cluster unreachable|connection refused|connection reset|no route to host|unexpected EOF"),
    ("SERVER_UNREACHABLE", r"the server is currently unable|ServiceUnavailable|TLS handshake timeout|: EOF"),
    ("OPERATOR_NOT_READY", r"deadline exceeded|timed out waiting|not ready\. status|signal: (terminated|killed)"),
)


@dataclass(frozen=True)
class Release:
    """A release as it should be: which chart, from where, under which name."""

    name: str
    namespace: str
    chart: str
    version: str
    repository: str
    sha256: str | None = None  # of the chart's archive


def find(releases: Iterable[HelmRelease], name: str, namespace: str) -> HelmRelease | None:
    """Return the release of this name in a namespace, unless only its history is left."""
    wanted = (release for release in releases if (release.name, release.namespace) == (name, namespace))
    return next((release for release in wanted if release.status != "uninstalled"), None)


def same_version(one: str, other: str) -> bool:
    """Return True if two chart versions are the same for helm, as "v26.7.0" and "26.7.0" are."""
    return one.removeprefix("v") == other.removeprefix("v")


def as_wanted(found: HelmRelease | None, wanted: Release, values: Mapping[str, Any]) -> bool:
    """Return True if a release is deployed with the wanted chart and values."""
    return found is not None and found.deployed and not differences(found, wanted, values)


def differences(found: HelmRelease, wanted: Release, values: Mapping[str, Any]) -> list[str]:
    """Return descriptions of how a release differs from the wanted chart and values."""
    differs = []
    if found.chart != wanted.chart or not same_version(found.chart_version, wanted.version):
        differs.append(f"chart {found.chart} {found.chart_version}, wanted {wanted.chart} {wanted.version}")
    if found.values != values:
        differs.append("other values")
    return differs


def stuck(found: HelmRelease | None) -> bool:
    """Return True if helm was killed at work on a release, or still is at work: it refuses further upgrades."""
    return found is not None and (found.pending or found.status == "uninstalling")


def should_bring_nfd(own: HelmRelease | None, rivals: Iterable[HelmRelease], keeps_it: bool) -> bool:
    """Return True if a release should bring node feature discovery, given the other releases that may.

    Exactly one does, in any order: the one that has it keeps it. If both have it, `keeps_it` decides, and a release
    of node feature discovery itself comes first.
    """
    theirs = [rival for rival in rivals if rival.chart == NFD_CHART or brings_nfd(rival.values)]
    if not theirs:
        return True
    alone = any(rival.chart == NFD_CHART for rival in theirs)
    return not alone and keeps_it and own is not None and brings_nfd(own.values)


def trouble(output: str) -> tuple[str, str]:
    """Return an error code and a line of explanation for the output of a failed helm."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    start = next((n for n, line in enumerate(lines) if line.startswith("Error:")), None)
    # Warnings before the error do not explain it.
    said = lines if start is None else lines[start:]
    code = next((code for code, pattern in MEANINGS if re.search(pattern, "\n".join(said))), "HELM_FAILED")
    message = " ".join(lines[-1:] if start is None else said[:6]).removeprefix("Error:").strip()
    return code, message[:600] or "helm was killed before it printed anything"


OTHER = {GPU.release: NETWORK, NETWORK.release: GPU}


def with_nfd(
    operator: Operator, base: Mapping[str, Any], extra: Mapping[str, Any], releases: Sequence[HelmRelease]
) -> dict[str, Any]:
    """Return an operator's values with node feature discovery on or off, and with `extra` merged into them.

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
    """Return True if an operator's release should bring node feature discovery.

    Rivals are known by their chart: those that somebody installed under another name never give it up.
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
    """Return the releases that lose node feature discovery once an operator is removed."""
    others = rivals(operator, releases)
    if any(rival.chart == NFD_CHART or brings_nfd(rival.values) for rival in others):
        return []
    return [rival.name for rival in others]


MOST_EVENTS = 2
LONGEST = 200


def why_waiting(namespace: str) -> list[str]:
    """Return which pods of a namespace wait and for what, and the last warnings about them."""
    pods = host.get_fact(OperatorPods, namespace=namespace) or ()
    events = host.get_fact(OperatorWarnings, namespace=namespace) or ()
    # A warning about a pod that is gone or ready by now explains nothing.
    about = {f"Pod/{pod.name}" for pod in operators.waiting(pods)}
    recent = [event for event in events if event.about in about or not event.about.startswith("Pod/")]
    warnings = [f"{event.about}: {event.reason}: {event.message[:LONGEST]}" for event in recent[-MOST_EVENTS:]]
    return operators.why_waiting(pods) + warnings
