"""The ConnectX-7 as a node sees it: four halves behind two QSFP ports.

Each port hangs on two PCIe links, so it appears twice, and full speed on one cable needs both halves, each with an
address in a subnet of its own (docs.nvidia.com/dgx/dgx-spark/spark-clustering.html). Names are taken from the system:
`rocep1s0f0`, `mlx5_0` and `roceP2p1s1` have all been seen for such halves.
"""

from __future__ import annotations

from collections.abc import Mapping

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.rdma import ConnectX7, read_connectx7
from gb10.facts.reading.requests import sections_job
from gb10.facts.reading.sections import Section


class RdmaLinks(SectionsFact[ConnectX7 | None]):
    """Every ConnectX-7 half of the node; None without RDMA and such a NIC.

    From `rdma -j link` (its text form where the JSON is none), then ibdev2netdev, sysfs and ibstat for what is
    missing, and `ip -j addr`. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        commands = {
            "rdma json": "rdma -j link",
            "rdma": "rdma link",
            "ibdev2netdev": "ibdev2netdev",
            "ibstat": "ibstat",
            "ip": "ip -d -j addr",
        }
        return Launch("gb10.programs.connectx7:main", sections_job(commands))

    def read_sections(self, found: Mapping[str, Section]) -> ConnectX7 | None:
        return read_connectx7(found)
