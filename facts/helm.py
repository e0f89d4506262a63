"""Helm's releases, read from where helm keeps them.

Not by the helm binary: `helm list` joins chart and version into one word ("network-operator-26.7.0-rc.1"), its `-a` is
gone in helm 4, and the values cost one more call for each release. The Secrets say all of it at once, for every
version of helm, and before helm is installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import urlencode

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.helm import HelmRelease, parse_releases
from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections

NO_API, NOT_READ = 1, 3
# By its path: kubectl need not ask first which kinds there are.
SECRETS = f"/api/v1/secrets?{urlencode({'labelSelector': 'owner=helm,status!=superseded'})}"


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
