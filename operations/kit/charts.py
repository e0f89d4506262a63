"""Charts, versions and values: pure decisions about what a release must be, and what helm's words mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.cluster import HelmRelease
from gb10.group_data.settings import brings_nfd

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
    """Given the releases of a cluster, return the one of a name in a namespace, unless its history alone is left."""
    wanted = (release for release in releases if (release.name, release.namespace) == (name, namespace))
    return next((release for release in wanted if release.status != "uninstalled"), None)


def same_version(one: str, other: str) -> bool:
    """Tell whether two chart versions are one: helm treats "v26.7.0" and "26.7.0" alike."""
    return one.removeprefix("v") == other.removeprefix("v")


def as_wanted(found: HelmRelease | None, wanted: Release, values: Mapping[str, Any]) -> bool:
    """Tell whether a release is deployed with the wanted chart and values."""
    return found is not None and found.deployed and not differences(found, wanted, values)


def differences(found: HelmRelease, wanted: Release, values: Mapping[str, Any]) -> list[str]:
    """Given a release, say in words how its chart and values are not what was wanted."""
    differs = []
    if found.chart != wanted.chart or not same_version(found.chart_version, wanted.version):
        differs.append(f"chart {found.chart} {found.chart_version}, wanted {wanted.chart} {wanted.version}")
    if found.values != values:
        differs.append("other values")
    return differs


def stuck(found: HelmRelease | None) -> bool:
    """Tell whether helm was killed at work on a release, or still is at it: it refuses every further upgrade."""
    return found is not None and (found.pending or found.status == "uninstalling")


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Given values, return them with more values over them: mappings are merged, all else is replaced."""
    result = dict(base)
    for key, value in extra.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type] # `both` says so
    return result


def should_bring_nfd(own: HelmRelease | None, rivals: Iterable[HelmRelease], keeps_it: bool) -> bool:
    """
    Given a release and the other releases that may bring node feature discovery, tell whether this one should.

    Exactly one does, whatever the order: who has it keeps it. Where both do, `keeps_it` settles it, and a release of
    node feature discovery itself goes before both.
    """
    theirs = [rival for rival in rivals if rival.chart == NFD_CHART or brings_nfd(rival.values)]
    if not theirs:
        return True
    alone = any(rival.chart == NFD_CHART for rival in theirs)
    return not alone and keeps_it and own is not None and brings_nfd(own.values)


def trouble(output: str) -> tuple[str, str]:
    """Given what a failed helm printed, return a code and one line of what happened."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    start = next((n for n, line in enumerate(lines) if line.startswith("Error:")), None)
    # What helm warns of before it fails is not why it fails.
    said = lines if start is None else lines[start:]
    code = next((code for code, pattern in MEANINGS if re.search(pattern, "\n".join(said))), "HELM_FAILED")
    message = " ".join(lines[-1:] if start is None else said[:6]).removeprefix("Error:").strip()
    return code, message[:600] or "helm ended without a word: it was killed"
