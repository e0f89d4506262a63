"""The ConnectX-7 as a node sees it: four halves behind two QSFP ports.

Each port hangs on two PCIe links, so it appears twice, and full speed on one cable needs both halves, each with an
address in a subnet of its own (docs.nvidia.com/dgx/dgx-spark/spark-clustering.html). Names are taken from the system:
`rocep1s0f0`, `mlx5_0` and `roceP2p1s1` have all been seen for such halves.
"""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.rdma import MELLANOX, ConnectX7, read_connectx7
from gb10.facts.reading.sections import read_sections

# device|port|PCI address|vendor|rate|state|physical state|netdevs
READ_SYSFS_RDMA = """cd /sys/class/infiniband || exit 127
for port in */ports/*; do
  [ -e "$port" ] || continue
  device=${port%%/*}
  echo "$device|${port##*/}|$(basename "$(readlink "$device/device")")|$(cat "$device/device/vendor")|\
$(cat "$port/rate")|$(cat "$port/state")|$(cat "$port/phys_state")|$(echo $(ls "$device/device/net"))"
done"""
# netdev|PCI address|port name of the NIC|Mb/s, of Mellanox netdevs only
READ_SYSFS_NET = f"""cd /sys/class/net || exit 127
for netdev in *; do
  [ "$(cat "$netdev/device/vendor")" = {MELLANOX} ] || continue
  echo "$netdev|$(basename "$(readlink "$netdev/device")")|$(cat "$netdev/phys_port_name")|$(cat "$netdev/speed")"
done"""


class RdmaLinks(FactBase[ConnectX7 | None]):
    """Every ConnectX-7 half of the node; None where nothing on the node knows of RDMA or of such a NIC.

    From `rdma -j link` (its text form where the JSON is none), then ibdev2netdev, sysfs and ibstat for what is
    missing, and `ip -j addr`. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections(
            {
                "rdma json": "rdma -j link",
                "rdma": "rdma link",
                "ibdev2netdev": "ibdev2netdev",
                "sysfs rdma": READ_SYSFS_RDMA,
                "ibstat": "ibstat",
                "sysfs net": READ_SYSFS_NET,
                "ip": "ip -d -j addr",
            }
        )

    @understood
    def process(self, output: list[str]) -> ConnectX7 | None:
        return read_connectx7(read_sections(output))
