"""The end of an installation: SSH answers long before it, and the node reboots once more."""

from __future__ import annotations

from collections.abc import Mapping

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.settled import SettledState, read_settled


class Settled(SectionsFact[SettledState]):
    """Boot, cloud-init, package installation, Docker and the GPU driver: which of them is not done.

    What is not on the node is not waited for. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        locks = "/var/lib/dpkg/lock-frontend /var/lib/dpkg/lock"
        return self.sections(
            {
                "system": "systemctl is-system-running",
                "cloud-init": "command -v cloud-init >/dev/null && timeout 20 cloud-init status",
                "packages": f"command -v fuser >/dev/null && fuser {locks}",
                "docker": "! command -v docker >/dev/null || timeout 20 docker version --format '{{.Server.Version}}'",
                "gpu": "! command -v nvidia-smi >/dev/null || timeout 20 nvidia-smi -L",
            },
            {"boot": "/proc/sys/kernel/random/boot_id", "uptime": "/proc/uptime"},
        )

    def read_sections(self, found: Mapping[str, Section]) -> SettledState:
        return read_settled(found)
