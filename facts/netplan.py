"""The merged netplan configuration of some interfaces. Secrets in it (Wi-Fi) never leave the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from gb10.facts.reading.launcher import Launch, ProgramFact
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Netplan(FactValue):
    """The merged configuration, or the `error` with which netplan refused it."""

    renderer: str | None  # "networkd", "NetworkManager", or None where no file names one
    addresses: dict[str, tuple[str, ...]]  # interface -> static addresses
    error: str | None = None


class NetplanConfig(ProgramFact[Netplan | None]):
    """The netplan configuration of `interfaces`, or None if the node has no netplan.

    Needs root. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, interfaces: Sequence[str]) -> Launch:
        return Launch("gb10.programs.netplan_probe:main", {"interfaces": list(interfaces)})

    def read(self, answer: Any) -> Netplan | None:
        if answer is None:
            return None
        if answer["error"]:
            return Netplan(renderer=None, addresses={}, error=str(answer["error"]))
        addresses = {name: tuple(map(_address, entries)) for name, entries in answer["addresses"].items()}
        return Netplan(answer["renderer"], addresses)


def _address(entry: Any) -> str:
    """Given an address of netplan: "10.0.0.1/24", or an object of that one key with options."""
    text = next(iter(entry)) if isinstance(entry, dict) else entry
    return str(ip_interface(text))
