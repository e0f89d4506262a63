"""Helm releases, as helm stores them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class HelmRelease(FactValue):
    """The newest revision of a release."""

    name: str
    namespace: str
    revision: int
    status: str  # deployed, failed, pending-install, pending-upgrade, pending-rollback, uninstalling, uninstalled
    chart: str  # name of the chart, which need not be the release's
    chart_version: str
    app_version: str | None
    # as the user gave them, without the chart's defaults; empty for a chart whose values were not asked for
    values: dict[str, Any] = field(default_factory=dict)
    description: str = ""  # why it failed, in helm's words
    deployed_at: str = ""
    deployed_revision: int | None = None  # the newest that was a success; None when there never was one

    @property
    def deployed(self) -> bool:
        """True if the newest revision is a success."""
        return self.status == "deployed"

    @property
    def pending(self) -> bool:
        """True if helm works on it, or was killed meanwhile: then helm refuses every further upgrade."""
        return self.status.startswith("pending-")


def read_releases(rows: Iterable[dict[str, Any]]) -> tuple[HelmRelease, ...]:
    """Given all revisions as programs/helm_storage.py reads them, return the newest one of each release."""
    revisions = sorted(map(_revision, rows), key=attrgetter("namespace", "name", "revision"))
    return tuple(_newest(list(group)) for _, group in groupby(revisions, key=attrgetter("namespace", "name")))


def _revision(row: dict[str, Any]) -> HelmRelease:
    info, chart, values = row["info"], row["chart"], row["config"] or {}
    if not isinstance(values, dict):
        raise ValueError(f"values of {row['name']} are no mapping")
    status = str(info["status"])
    revision = int(row["version"])
    return HelmRelease(
        name=str(row["name"]),
        namespace=str(row["namespace"]),
        revision=revision,
        status=status,
        chart=str(chart["name"]),
        chart_version=str(chart["version"]),
        app_version=None if chart["appVersion"] is None else str(chart["appVersion"]),
        values=values,
        description=str(info["description"] or ""),
        deployed_at=str(info["last_deployed"] or ""),
        deployed_revision=revision if status == "deployed" else None,
    )


def _newest(revisions: list[HelmRelease]) -> HelmRelease:
    deployed = [revision.revision for revision in revisions if revision.deployed]
    return replace(revisions[-1], deployed_revision=max(deployed, default=None))
