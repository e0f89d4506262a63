"""The helm binary on the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

BINARY = "/usr/local/bin/helm"
STATE = "/var/lib/gb10/helm"  # charts, values and helm's own folders: a user's repositories are left alone
LOCK = f"{STATE}/lock"


@dataclass(frozen=True)
class HelmBinary(FactValue):
    """The installed helm, and if it is at work."""

    version: str | None  # "v4.3.1"; None without a binary that answers
    busy: bool  # a helm that we started has not ended, even if the run that started it has


class HelmClient(SectionsFact[HelmBinary]):
    """The helm binary of the node.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections(
            {
                "version": f"{BINARY} version --template '{{{{.Version}}}}'",
                "busy": f"test -e {LOCK} && ! flock -n {LOCK} true",
            }
        )

    def read_sections(self, found: Mapping[str, Section]) -> HelmBinary:
        return HelmBinary(version=found["version"].first, busy=found["busy"].status == 0)
