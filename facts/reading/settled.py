"""The end of an installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

SERVICES = ("Docker", "the GPU driver")  # which a person may have to mend: they need not pass by themselves


@dataclass(frozen=True)
class SettledState(FactValue):
    """State of a fresh installation. `waits_for` is empty once it is done."""

    boot_id: str
    up_seconds: float
    system: str  # as `systemctl is-system-running` says
    waits_for: tuple[str, ...]  # in words

    @property
    def installs(self) -> tuple[str, ...]:
        """The parts of `waits_for` that end by themselves."""
        return tuple(what for what in self.waits_for if what not in SERVICES)


def read_settled(found: Mapping[str, Section]) -> SettledState:
    """Return what the sections of Settled tell."""
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
        up_seconds=float(found["uptime"].lines[0].split()[0]),
        system=system,
        waits_for=tuple(what for what, is_waited in waits.items() if is_waited),
    )
