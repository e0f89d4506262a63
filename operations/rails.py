"""The rails of a node: both halves of the cabled ConnectX-7 port, configured by netplan with any renderer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml
from pyinfra.context import host

from gb10.facts.docker import RunningContainers, serving
from gb10.facts.file import TextFile, TextFileState
from gb10.facts.network import Interface, Interfaces, Netplan, NetplanConfig
from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.rdma import ConnectX7
from gb10.facts.reading.reports import Refused
from gb10.operations.file import show_diff
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.trials import trial
from gb10.programs.answer import RefusedError
from gb10.templates import render

FILE = "/etc/netplan/95-gb10-rails.yaml"


@dataclass(frozen=True)
class Rail:
    """The wanted state of one half of a port."""

    interface: str
    address: str  # with prefix length: "192.168.100.11/24"
    mtu_bytes: int


@operation()
def rails(wanted: Sequence[Rail], seconds: int, disturb: bool, patterns: Sequence[str]) -> Commands:
    """
    Set the rails' addresses and MTU, now and after a boot.

    + wanted: one for each half
    + seconds: how long the node waits for a new login before it goes back to what it had
    + disturb: change them even while a container is serving
    + patterns: names of containers that count as serving

    For an interface without a carrier only the file is compared: nothing can be configured on it.
    """
    interfaces = known(Interfaces)
    names = [rail.interface for rail in wanted]
    if not any(name in interfaces for name in names) and not has_connectx7(known(RdmaLinks)):
        host.noop("no ConnectX-7 is here, so no rails")
        return
    plan = known(NetplanConfig, interfaces=[name for name in names if name in interfaces])
    file = known(TextFile, path=FILE)
    content = render("node/rails.yaml.j2", rails=wanted)
    if refusal := next(rail_refusals(wanted, interfaces, plan, file), None):
        raise RefusedError(refusal.code, f"{host.name}: {refusal.text}")
    if file and (file.content, file.mode) == (content, "600") and all(is_live(rail, interfaces) for rail in wanted):
        host.noop("the rails are as wanted")
        return
    running = None if disturb else known(RunningContainers)
    if busy := serving(running or (), patterns):
        raise RefusedError("SERVING_RUNS", f"{host.name}: {', '.join(busy)} may use the rails, which are to change")
    show_diff(FILE, file, content)
    values = "".join(f"{rail.interface} {rail.address} {rail.mtu_bytes}\n" for rail in wanted)
    yield from trial("rails", "rails-action.sh", content, seconds, "RAILS_REJECTED", values=values)


def has_connectx7(found: ConnectX7 | None) -> bool:
    """Return True if a node has a ConnectX-7. If the tools are installed, they also answer on a node without one."""
    return bool(found and found.links)


def rail_refusals(
    wanted: Sequence[Rail], interfaces: Mapping[str, Interface], plan: Netplan | None, file: TextFileState | None
) -> Iterator[Refused]:
    """Yield the reasons to refuse rails."""
    missing = [rail.interface for rail in wanted if rail.interface not in interfaces]
    if missing:
        yield Refused("RAIL_UNKNOWN", f"it has no {' and no '.join(missing)}; it has {', '.join(sorted(interfaces))}")
    if plan is None:
        yield Refused("NETPLAN_ABSENT", "it has no netplan")
    elif plan.error:
        yield Refused("NETPLAN_BROKEN", f"netplan cannot read its own files: {plan.error}")
    else:
        own = own_addresses(file.content if file else "")
        for rail in wanted:
            others = set(plan.addresses.get(rail.interface, ())) - own.get(rail.interface, set()) - {rail.address}
            if others:
                text = f"another file below /etc/netplan gives {rail.interface} {', '.join(sorted(others))}"
                yield Refused("NETPLAN_CONFLICT", f"{text}, which is to have {rail.address}")


def own_addresses(content: str) -> dict[str, set[str]]:
    """Return interface -> addresses of our own netplan file; none if it is broken: it will be replaced."""
    try:
        ethernets = yaml.safe_load(content)["network"]["ethernets"]
        return {name: set(map(str, ethernet["addresses"])) for name, ethernet in ethernets.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


def is_live(rail: Rail, interfaces: Mapping[str, Interface]) -> bool:
    """Return True if a rail is as wanted, or cannot be checked since its interface has no carrier."""
    interface = interfaces[rail.interface]
    return not interface.up or (interface.mtu_bytes == rail.mtu_bytes and rail.address in interface.addresses)
