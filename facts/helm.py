"""Helm's releases, read from where helm keeps them.

Not by the helm binary: `helm list` joins chart and version into one word ("network-operator-26.7.0-rc.1"), its `-a` is
gone in helm 4, and the values cost one more call for each release. The Secrets say all of it at once, for every
version of helm, and before helm is installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from gb10.facts.reading.helm import HelmRelease, read_releases
from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import Launch, ProgramFact

# By its path: kubectl need not ask first which kinds there are.
SECRETS = f"/api/v1/secrets?{urlencode({'labelSelector': 'owner=helm,status!=superseded'})}"
READ_SECRETS = f"{KUBECTL} get --raw {shlex.quote(SECRETS)}"


class HelmReleases(ProgramFact[tuple[HelmRelease, ...] | None]):
    """Every release of the cluster by namespace and name; None where no API server answers on this host.

    + charts: of whose releases the values are read; they may hold secrets

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, charts: Sequence[str] = ()) -> Launch:
        return Launch("gb10.programs.helm_storage:main", {"command": READ_SECRETS, "charts": list(charts)})

    def read(self, answer: Any) -> tuple[HelmRelease, ...] | None:
        if isinstance(answer, dict):
            raise ValueError(answer["error"])
        return None if answer is None else read_releases(answer)
