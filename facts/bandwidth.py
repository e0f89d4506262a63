"""The bandwidth of the rails between two nodes, measured on demand.

Only a measurement shows the known power fault of the NIC: 12 to 14 Gb/s whatever the protocol, while the link says
200 Gb/s and the PCIe link is sound. A fact runs on one node, so the other one must listen: see `listen`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gb10.facts.reading.bandwidth import RailBandwidth, read_rail
from gb10.facts.reading.launcher import Launch, ProgramFact

SPARE_SECONDS = 30  # for each rail, beside twice the time of a measurement


class RdmaBandwidth(ProgramFact[tuple[RailBandwidth, ...]]):
    """Rate of each rail from this node to a peer that listens (see `listen`), one rail after the other.

    + peers: network interface of this node -> (the peer's address on that rail, port); needs port + 1 as well
    + seconds: how long each rail is measured

    By ib_write_bw where this node has it and the peer answers to it, by TCP streams otherwise. It takes the rails'
    whole capacity: never while something is served. Raises FactProcessError for output that is not understood.
    """

    def command(self, peers: Mapping[str, Sequence[str | int]], seconds: int = 3) -> Launch:
        rails = [[netdev, str(address), int(port)] for netdev, (address, port) in peers.items()]
        limit = len(rails) * (2 * seconds + SPARE_SECONDS)
        return Launch("gb10.programs.bandwidth:measure", {"rails": rails, "seconds": seconds}, seconds=limit)

    def read(self, answer: Any) -> tuple[RailBandwidth, ...]:
        return tuple(map(read_rail, answer))


def listen(
    netdev: str,
    address: str,
    port: int,
    peer: str,
    *,
    lifetime_seconds: int,
    seconds: int = 3,
    told: Callable[[dict[str, Any]], None] = lambda details: None,
) -> Launch:
    """Given a rail of the peer's side, return the command that answers one measurement of `seconds`.

    `netdev` and `address` are the listening node's, `peer` is the address of the one that measures. It calls `told`
    when it listens, and ends after its lifetime or with its connection. TCP serves only `peer`, ib_write_bw
    (port + 1) serves one client.
    """
    job = {"rail": [netdev, address, port], "peer": peer, "lifetime": lifetime_seconds, "seconds": seconds}
    return Launch("gb10.programs.bandwidth:listen", job, seconds=lifetime_seconds, told=told)
