"""Helm's releases, read from where helm keeps them.

Not by the helm binary: `helm list` joins chart and version into one word ("network-operator-26.7.0-rc.1"), its `-a` is
gone in helm 4, and the values cost one more call for each release. The Secrets say all of it at once, for every
version of helm, and before helm is installed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from typing import Any
from urllib.parse import urlencode

from pyinfra.api import FactBase, StringCommand

from gb10.facts.k3s import KUBECTL
from gb10.facts.reading.sections import read_sections, sections, understood
from gb10.facts.reading.values import FactValue

NO_API, NOT_READ = 1, 3
# By its path: kubectl need not ask first which kinds there are.
SECRETS = f"/api/v1/secrets?{urlencode({'labelSelector': 'owner=helm,status!=superseded'})}"


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
        """Whether the newest revision is a success."""
        return self.status == "deployed"

    @property
    def pending(self) -> bool:
        """Whether helm is at work on it, or was killed at it: then it refuses every further upgrade."""
        return self.status.startswith("pending-")


class HelmReleases(FactBase[tuple[HelmRelease, ...] | None]):
    """Every release of the cluster by namespace and name; None where no API server answers on this host.

    + charts: of whose releases the values are read; they may hold secrets, and pyinfra -vvv prints what is read

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, charts: Sequence[str] = ()) -> StringCommand:
        script = files("gb10.programs").joinpath("helm_storage.py").read_text()
        return sections(
            {
                "releases": f"secrets=$({KUBECTL} get --raw {shlex.quote(SECRETS)})"
                f" || exit {NO_API}; "
                f'printf %s "$secrets" | python3 -c {shlex.join([script, *charts])}'
                f" || exit {NOT_READ}"
            }
        )

    @understood
    def process(self, output: list[str]) -> tuple[HelmRelease, ...] | None:
        section = read_sections(output)["releases"]
        if section.status == NO_API:
            return None
        if section.status != 0:
            raise ValueError("the node cannot read helm's Secrets")
        return parse_releases(section.text)


def parse_releases(text: str) -> tuple[HelmRelease, ...]:
    """Given what helm_storage.py prints, return the newest revision of each release. Raise ValueError otherwise."""
    revisions = sorted((_revision(row) for row in json.loads(text)), key=attrgetter("namespace", "name", "revision"))
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
