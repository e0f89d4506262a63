"""Settings of a node's speed: the governor of its cores, and persistence mode of the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

UNIT = "gb10-performance.service"
WANTED_GOVERNOR = "performance"

# governor|governors that the driver offers, of every policy that can be written
READ_GOVERNORS = """cd /sys/devices/system/cpu/cpufreq || exit 127
for policy in policy*; do
  [ -w "$policy/scaling_governor" ] || continue
  echo "$(cat "$policy/scaling_governor")|$(cat "$policy/scaling_available_governors")"
done"""


@dataclass(frozen=True)
class Speed(FactValue):
    """The settings that the hardware has, and their values."""

    governors: tuple[str, ...]  # of the policies that know the wanted one; empty where there are none
    nvidia_smi: str | None  # path of the tool, where it knows persistence mode
    persistence: bool | None
    unit_active: bool
    unit_enabled: bool


class PerformanceMode(SectionsFact[Speed]):
    """Settings of the node's speed. Raises FactProcessError for the host whose output is not understood."""

    def command(self) -> Launch:
        return self.sections(
            {
                "governors": READ_GOVERNORS,
                "persistence": "timeout 20 nvidia-smi --query-gpu=persistence_mode --format=csv,noheader",
                "nvidia-smi": "command -v nvidia-smi",
                "active": f"systemctl is-active {UNIT}",
                "enabled": f"systemctl is-enabled {UNIT}",
            }
        )

    def read_sections(self, found: Mapping[str, Section]) -> Speed:
        rows = [line.split("|") for line in found["governors"].lines if line]
        persistence = {"Enabled": True, "Disabled": False}.get((found["persistence"].first or "").strip())
        return Speed(
            governors=tuple(governor for governor, offered in rows if WANTED_GOVERNOR in offered.split()),
            nvidia_smi=found["nvidia-smi"].first if persistence is not None else None,
            persistence=persistence,
            unit_active=found["active"].first == "active",
            unit_enabled=found["enabled"].first == "enabled",
        )
