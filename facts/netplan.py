"""What netplan's files say, all of them merged, about some interfaces. Secrets of others (Wi-Fi) are never read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

import yaml
from pyinfra.api import FactBase, StringCommand

from gb10.facts.sections import Section, read_sections, sections, understood
from gb10.facts.values import FactValue

# Without the variable Python leaves its bytecode on the node, and a fact writes nothing.
GET = "PYTHONDONTWRITEBYTECODE=1 netplan get"
NAME, ERRORS, RENDERER = "@netplan", "@errors", "@renderer"  # beside the names of interfaces


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
        return sections(
            {
                NAME: "command -v netplan",
                # netplan tells of broken files on stderr alone, and exits with 0.
                ERRORS: f"{GET} 2>&1 >/dev/null | grep -m 1 -E '^(Command failed|Error|Traceback)'",
                RENDERER: f"{GET} renderer",
                **{name: f"{GET} ethernets.{name}.addresses" for name in interfaces},
            }
        )

    @understood
    def process(self, output: list[str]) -> Netplan | None:
        found = read_sections(output)
        name, errors, renderer = (found.pop(key) for key in (NAME, ERRORS, RENDERER))
        if name.status != 0:
            return None
        if errors.lines:
            return Netplan(renderer=None, addresses={}, error=errors.lines[0])
        return Netplan(
            renderer=yaml.safe_load(renderer.text),
            addresses={interface: tuple(map(_address, _list(section))) for interface, section in found.items()},
        )


def _list(section: Section) -> list[Any]:
    value = yaml.safe_load(section.text)
    if not isinstance(value, list | None):
        raise ValueError(f"netplan get printed {section.text!r}")
    return value or []


def _address(entry: Any) -> str:
    """Given an address of netplan: "10.0.0.1/24", or an object of that one key with options."""
    text = next(iter(entry)) if isinstance(entry, dict) else entry
    return str(ip_interface(text))
