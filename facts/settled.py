"""Whether a node that was just installed has come to rest: SSH answers long before that, and the node reboots again."""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.facts.reading.settled import SettledState, read_settled


class Settled(FactBase[SettledState]):
    """Whether boot, cloud-init, package installation, Docker and the GPU driver are done.

    What is not on the node is not waited for. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        locks = "/var/lib/dpkg/lock-frontend /var/lib/dpkg/lock"
        return sections(
            {
                "boot": "cat /proc/sys/kernel/random/boot_id",
                "uptime": "cut -d' ' -f1 /proc/uptime",
                "system": "systemctl is-system-running",
                "cloud-init": "command -v cloud-init >/dev/null && timeout 20 cloud-init status",
                "packages": f"command -v fuser >/dev/null && fuser {locks}",
                "docker": "! command -v docker >/dev/null || timeout 20 docker version --format '{{.Server.Version}}'",
                "gpu": "! command -v nvidia-smi >/dev/null || timeout 20 nvidia-smi -L",
            }
        )

    @understood
    def process(self, output: list[str]) -> SettledState:
        return read_settled(read_sections(output))
