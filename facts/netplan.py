"""What netplan's files say, all of them merged, about some interfaces. Secrets of others (Wi-Fi) are never read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_interface
from typing import Any

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Netplan(FactValue):
    """The merged configuration. `error` is netplan's own word where it cannot read it, else None."""

    renderer: str | None  # "networkd", "NetworkManager", or None where no file names one
    addresses: dict[str, tuple[str, ...]]  # interface -> static addresses
    error: str | None = None


class NetplanConfig(FactBase[Netplan | None]):
    """What netplan says about `interfaces`, or None where the node has no netplan.

    Needs root. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, interfaces: Sequence[str]) -> StringCommand:
        # netplan's own Python: that has the modules which netplan needs.
        words = ("/usr/bin/python3", "-B", "-c", probe_program(), *interfaces)
        return sections({"netplan": "command -v netplan", "config": shlex.join(words)})

    @understood
    def process(self, output: list[str]) -> Netplan | None:
        found = read_sections(output)
        if found["netplan"].status != 0:
            return None
        if found["config"].status != 0:
            raise ValueError(f"netplan could not be asked (status {found['config'].status})")
        said = json.loads(found["config"].text)
        if said["error"]:
            return Netplan(renderer=None, addresses={}, error=str(said["error"]))
        addresses = {name: tuple(map(_address, entries)) for name, entries in said["addresses"].items()}
        return Netplan(said["renderer"], addresses)


def probe_program() -> str:
    """The program that runs on the nodes."""
    return files("gb10.programs").joinpath("netplan_probe.py").read_text()


def _address(entry: Any) -> str:
    """Given an address of netplan: "10.0.0.1/24", or an object of that one key with options."""
    text = next(iter(entry)) if isinstance(entry, dict) else entry
    return str(ip_interface(text))
