"""What the rails between two nodes really carry, measured on demand.

Only a measurement shows the known power fault of the NIC: 12 to 14 Gb/s whatever the protocol, while the link says
200 Gb/s and the PCIe link is sound. A fact runs on one node, so the other one must listen: `listen_command` is the
shell command for it, one for each rail.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.bandwidth import NOTE, Method, RailBandwidth, read_rail
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections

STREAMS = 8  # one TCP stream carries about 12 Gb/s on a Spark, eight filled a half
QUEUE_PAIRS = 4
MESSAGE_BYTES = 65536  # small: a test with 16 GB of buffers has frozen a node


class RdmaBandwidth(FactBase[tuple[RailBandwidth, ...]]):
    """Rate of each rail from this node to a peer that listens (see `listen_command`), one rail after the other.

    + peers: network interface of this node -> (the peer's address on that rail, port); needs port + 1 as well
    + seconds: how long each rail is measured

    By ib_write_bw where this node has it and the peer answers to it, by TCP streams otherwise. It takes the rails'
    whole capacity: never while something is served. Raises FactProcessError for output that is not understood.
    """

    def command(self, peers: Mapping[str, Sequence[str | int]], seconds: int = 3) -> StringCommand:
        commands = {}
        for netdev, (address, port) in peers.items():
            commands[f"link {netdev} {address}"] = f"cat /sys/class/net/{shlex.quote(netdev)}/speed"
            commands[f"rail {netdev} {address}"] = _measure(netdev, str(address), int(port), seconds)
        return sections(commands)

    @understood
    def process(self, output: list[str]) -> tuple[RailBandwidth, ...]:
        found = read_sections(output)
        rails = [name.split()[1:] for name in found if name.startswith("rail ")]
        return tuple(
            read_rail(netdev, peer, found[f"link {netdev} {peer}"], found[f"rail {netdev} {peer}"])
            for netdev, peer in rails
        )


def listen_command(netdev: str, address: str, port: int, peer: str, lifetime_seconds: int, seconds: int = 3) -> str:
    """Given a rail of the peer's side, return the shell command that answers one measurement of `seconds`.

    `netdev` and `address` are the listening node's, `peer` is the address of the one that measures. It ends by itself
    after its lifetime; TCP serves only `peer`, ib_write_bw (port + 1) serves one client.
    """
    tcp = shlex.join(["python3", "-c", _tcp_streams(), "listen", address, str(port), peer, str(lifetime_seconds)])
    rdma = f"timeout {lifetime_seconds} {_ib_write_bw(port, seconds)}"
    return f"{_find_rdma_device(netdev)} && {{ {rdma} >/dev/null 2>&1 & }}; exec {tcp}"


def _measure(netdev: str, address: str, port: int, seconds: int) -> str:
    tcp = ["python3", "-c", _tcp_streams(), "send", netdev, address, str(port), str(seconds), str(STREAMS)]
    limit = seconds + 15
    failed = f"""echo "{NOTE}ib_write_bw ended with status $status: $(echo "$rdma" | grep . | tail -n 1)\""""
    return (
        f"if {_find_rdma_device(netdev)}; then "
        f"rdma=$(timeout {limit} {_ib_write_bw(port, seconds)} {shlex.quote(address)} 2>&1); status=$?; "
        f'[ $status = 0 ] && {{ echo {Method.RDMA}; echo "$rdma"; exit; }}; {failed}; fi; '
        f"echo {Method.TCP}; exec timeout {limit} {shlex.join(tcp)}"
    )


def _find_rdma_device(netdev: str) -> str:
    folder = shlex.quote(f"/sys/class/net/{netdev}/device/infiniband")
    return f'device=$(ls {folder} 2>/dev/null) && [ -n "$device" ] && command -v ib_write_bw >/dev/null'


def _ib_write_bw(port: int, seconds: int) -> str:
    # -R lets rdma_cm choose the GID by address: its index is not the same on every Spark
    size = f"-q {QUEUE_PAIRS} -s {MESSAGE_BYTES} -D {seconds}"
    return f'ib_write_bw -R -F --report_gbits -d "$device" -p {port + 1} {size}'


def _tcp_streams() -> str:
    return files("gb10.programs").joinpath("tcp_streams.py").read_text()
