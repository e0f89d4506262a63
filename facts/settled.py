"""Whether a node that was just installed has come to rest: SSH answers long before that, and the node reboots again."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.sections import read_sections, sections, understood
from gb10.facts.reading.values import FactValue

SERVICES = ("Docker", "the GPU driver")  # which a person may have to mend: they need not pass by themselves


@dataclass(frozen=True)
class SettledState(FactValue):
    """What a fresh installation may still be doing. `waits_for` is empty when it is at rest."""

    boot_id: str
    up_seconds: float
    system: str  # as `systemctl is-system-running` says
    waits_for: tuple[str, ...]  # in words

    @property
    def installs(self) -> tuple[str, ...]:
        """What its installation still does, which ends by itself."""
        return tuple(what for what in self.waits_for if what not in SERVICES)


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
        found = read_sections(output)
        system = (found["system"].lines or ("unknown",))[0]
        waits = {
            f"its boot ({system})": system in ("initializing", "starting", "stopping"),
            "cloud-init": "running" in " ".join(found["cloud-init"].lines).split(),
            "the installation of packages": found["packages"].status == 0,
            SERVICES[0]: found["docker"].status != 0,
            SERVICES[1]: found["gpu"].status != 0,
        }
        return SettledState(
            boot_id=found["boot"].lines[0],
            up_seconds=float(found["uptime"].lines[0]),
            system=system,
            waits_for=tuple(what for what, is_waited in waits.items() if is_waited),
        )
