"""The helm binary on the head, and the releases in the cluster, read from where helm keeps them.

Releases are not read with the helm binary: `helm list` joins chart and version into one word
("network-operator-26.7.0-rc.1"), its `-a` is gone in helm 4, and the values cost one more call for each release. The
Secrets hold all of it, for every version of helm, and before helm is installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from gb10.facts.reading.cluster import HelmRelease, read_releases
from gb10.facts.reading.k3s import KUBECTL
from gb10.facts.reading.launcher import Launch, ProgramFact, SectionsFact
from gb10.facts.reading.values import FactValue, Sections

# By its path: kubectl need not ask first which kinds there are.
SECRETS = f"/api/v1/secrets?{urlencode({'labelSelector': 'owner=helm,status!=superseded'})}"
READ_SECRETS = f"{KUBECTL} get --raw {shlex.quote(SECRETS)}"


class HelmReleases(ProgramFact[tuple[HelmRelease, ...] | None]):
    """Every release of the cluster by namespace and name; None where no API server answers on this host.

    + charts: of whose releases the values are read; they may hold secrets
    """

    def command(self, charts: Sequence[str] = ()) -> Launch:
        return Launch("gb10.programs.helm_storage:main", {"command": READ_SECRETS, "charts": list(charts)})

    def read(self, answer: Any) -> tuple[HelmRelease, ...] | None:
        if isinstance(answer, dict):
            raise ValueError(answer["error"])
        return None if answer is None else read_releases(answer)


BINARY = "/usr/local/bin/helm"
STATE = "/var/lib/gb10/helm"  # charts, values and helm's own folders: a user's repositories are left alone
LOCK = f"{STATE}/lock"


@dataclass(frozen=True)
class HelmBinary(FactValue):
    """The installed helm, and if it is at work."""

    version: str | None  # "v4.3.1"; None without a binary that answers
    busy: bool  # a helm that we started has not ended, even if the run that started it has


class HelmClient(SectionsFact[HelmBinary]):
    """The helm binary of the node."""

    commands: ClassVar = {
        "version": f"{BINARY} version --template '{{{{.Version}}}}'",
        "busy": f"test -e {LOCK} && ! flock -n {LOCK} true",
    }

    def read_sections(self, found: Sections) -> HelmBinary:
        return HelmBinary(version=found["version"].first, busy=found["busy"].status == 0)
