"""Who listens on a node's TCP ports."""

from __future__ import annotations

import re

from pyinfra.api import FactBase, StringCommand

from gb10.facts.sections import read_sections, sections, understood


class TcpListeners(FactBase[dict[int, str]]):
    """Port -> name of the process that listens on it ("" where the node does not tell).

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections({"listeners": "ss -H -l -t -n -p"})

    @understood
    def process(self, output: list[str]) -> dict[int, str]:
        section = read_sections(output)["listeners"]
        if section.status != 0:
            raise ValueError(f"ss ended with status {section.status}")
        return dict(_listener(line) for line in section.lines)


def _listener(line: str) -> tuple[int, str]:
    """Given a line of ss: state, two queues, local address:port, peer, users:(("name",pid=1,fd=3))."""
    port = int(line.split()[3].rpartition(":")[2])
    process = re.search(r'users:\(\("([^"]*)"', line)
    return port, process[1] if process else ""
