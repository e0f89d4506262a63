"""The processes that listen on a node's TCP ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue

# One look: a process that is started again between two of them would be without its unit.
LISTENERS = (
    'found=$(ss -H -l -t -n -p) || exit; echo "$found"; echo "$found" | '
    "grep -o 'pid=[0-9]*' | sort -u | sed 's|pid=|/proc/|; s|$|/cgroup|' | xargs -r grep -H ^; true"
)


@dataclass(frozen=True)
class Listener(FactValue):
    """A process that listens on a port."""

    process: str | None  # its name; None where the node does not tell
    unit: str | None  # the systemd unit that it belongs to: "k3s.service"; None where it is gone, or in none


class TcpListeners(SectionsFact[dict[int, Listener]]):
    """Port -> the process that listens on it.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections({"listeners": LISTENERS})

    def read_sections(self, found: Mapping[str, Section]) -> dict[int, Listener]:
        lines = found["listeners"].printed
        units = dict(filter(None, map(_unit, lines)))
        return dict(_listener(line, units) for line in lines if line and not line.startswith("/proc/"))


def _unit(line: str) -> tuple[str, str] | None:
    """Given a process's line of cgroup v2, "/proc/812/cgroup:0::/system.slice/k3s.service", return its pid and unit."""
    matched = re.match(r"/proc/(\d+)/cgroup:0::(?:/[^/]+\.slice)*/([^/]+\.(?:service|scope|socket))(?:/|$)", line)
    return (matched[1], matched[2]) if matched else None


def _listener(line: str, units: dict[str, str]) -> tuple[int, Listener]:
    """Given a line of ss: state, two queues, local address:port, peer, users:(("name",pid=1,fd=3))."""
    port = int(line.split()[3].rpartition(":")[2])
    process = re.search(r'users:\(\("([^"]*)",pid=(\d+)', line)
    return port, Listener(process[1], units.get(process[2])) if process else Listener(None, None)
