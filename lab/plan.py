"""Names and addresses of a lab, all derived from its name and index, so a wiped node keeps them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

# Reserved for benchmarks of network devices (RFC 2544), so not routed anywhere.
POOL = ipaddress.IPv4Network("198.18.0.0/15")
LABS = 128
MOST_NODES = 32
NETWORKS = ("management", "a", "b")
# DGX OS's names of the management port and of the two halves of the first QSFP port.
INTERFACES = {"management": "enP7s7", "a": "enp1s0f0np0", "b": "enP2p1s0f0np0"}
MIRROR_PORT = 8900


@dataclass(frozen=True)
class NodePlan:
    """One node. `number` counts from 1; node 1 is the head."""

    lab: str
    index: int
    number: int

    @property
    def name(self) -> str:
        return f"spark-{self.number}"

    @property
    def container(self) -> str:
        return f"gb10-lab-{self.lab}-{self.name}"

    @property
    def docker_volume(self) -> str:
        return f"{self.container}-docker"

    @property
    def data_volume(self) -> str:
        return f"{self.container}-data"

    def address(self, network: str) -> str:
        """Return the node's address on a network, without prefix."""
        return str(subnet(self.index, network)[10 + self.number])

    def mac(self, network: str) -> str:
        """Return the MAC address, locally administered, of the node's interface on a network."""
        return f"02:b1:{NETWORKS.index(network):02x}:{self.index:02x}:{self._serial >> 8:02x}:{self._serial & 255:02x}"

    @property
    def factory_hostname(self) -> str:
        """Return the factory hostname as on a Spark: "spark-" and the last four digits of the management port's MAC."""
        return f"spark-{self._serial:04x}"

    @property
    def _serial(self) -> int:
        # The odd factor makes this one-to-one in 16 bits, so no two nodes of this machine share a factory hostname.
        return (self.index * 256 + self.number) * 40503 % 65536


def subnet(index: int, network: str) -> ipaddress.IPv4Network:
    """Return the /24 of a lab's network."""
    base = int(POOL.network_address) + (4 * index + NETWORKS.index(network)) * 256
    return ipaddress.IPv4Network((base, 24))


def bridge_address(index: int, network: str) -> str:
    """Return this machine's address on a lab's network."""
    return str(subnet(index, network)[1])


def network_name(lab: str, index: int, network: str) -> str:
    """Return the engine's name of a lab's network. It contains the index, so it changes with the addresses."""
    return f"gb10-lab-{lab}-{index}-{network}"


def free_index(taken: set[int], routed: list[ipaddress.IPv4Network]) -> int | None:
    """Return the first index that is not `taken` and whose networks overlap no routed network, or None."""
    for index in range(LABS):
        wanted = [subnet(index, network) for network in NETWORKS]
        if index not in taken and not any(one.overlaps(other) for one in wanted for other in routed):
            return index
    return None


def routed_networks(table: str) -> list[ipaddress.IPv4Network]:
    """Return the networks in the content of /proc/net/route, without the default route."""
    networks = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(field)[::-1], "big") for field in (fields[1], fields[7]))
        if mask:
            networks.append(ipaddress.IPv4Network((destination, bin(mask).count("1"))))
    return networks
