"""Who a node is: its names, numbers and clock."""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.identity import Identity, read_identity
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections


class NodeIdentity(FactBase[Identity]):
    """Identity of the node. Raises FactProcessError for the host whose output is not understood."""

    def command(self) -> StringCommand:
        return sections(
            {
                "hostname": "cat /proc/sys/kernel/hostname",
                "machine-id": "cat /etc/machine-id",
                "boot-id": "cat /proc/sys/kernel/random/boot_id",
                "links": "ip -j link",
                "machine": "uname -m",
                "os": "cat /etc/os-release",
                "clock": "date +%s.%N",
            }
        )

    @understood
    def process(self, output: list[str]) -> Identity:
        return read_identity(read_sections(output))
