"""The pins of an inventory: those of group data, and those that gb10.lock has from the first use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.facts.reading.operators import GPU, NETWORK
from gb10.group_data.settings import (
    GpuOperatorSettings,
    HelmSettings,
    K3sSettings,
    NetworkOperatorSettings,
    PinSettings,
)
from gb10.operations.kit import lock_file
from gb10.operations.kit.lock_file import Locked, chart_name, helm_name, k3s_name
from gb10.programs.answer import RefusedError


@dataclass(frozen=True)
class PinStatus:
    """The pin of a download. One in group data beats the one of gb10.lock."""

    name: str
    sha256: str
    source: str | None  # where it came from at its first use; None if gb10.lock does not have it
    in_group_data: bool

    def to_json(self) -> dict[str, str | bool | None]:
        return {
            "name": self.name,
            "sha256": self.sha256,
            "source": self.source,
            "in_group_data": self.in_group_data,
        }


def lock_path(inventory: Inventory) -> Path:
    """Return the lock file of an inventory."""
    chosen = inventory.hosts[0].settings(PinSettings).pins_file
    return Path(chosen).expanduser() if chosen else lock_file.beside(inventory.source)


def pins(inventory: Inventory) -> list[PinStatus]:
    """Return all pins by name. Raise PINS_UNUSABLE for a broken lock file."""
    given = {name: digest for host in inventory.hosts for name, digest in _given(host)}
    locked = _read(lock_path(inventory))
    return [
        PinStatus(
            name=name,
            sha256=given.get(name) or locked[name].sha256,
            source=locked[name].source if name in locked else None,
            in_group_data=name in given,
        )
        for name in sorted({*given, *locked})
    ]


def forget(inventory: Inventory, names: Sequence[str]) -> None:
    """Remove pins from gb10.lock. Raise USAGE for a name that it does not have, PINS_UNUSABLE for a broken file."""
    path = lock_path(inventory)
    if unknown := [name for name in names if name not in _read(path)]:
        raise Gb10Error("USAGE", reason=f"{path} has no pin {', '.join(unknown)}: gb10 lock shows all names")
    try:
        lock_file.forget(path, names)
    except RefusedError as error:
        raise Gb10Error(error.code, error.reason) from error


def _read(path: Path) -> dict[str, Locked]:
    try:
        return lock_file.read(path)
    except RefusedError as error:
        raise Gb10Error(error.code, error.reason) from error


def _given(host: InventoryHost) -> Iterator[tuple[str, str]]:
    """Yield name and digest of each pin in the group data of a host."""
    for version, digests in host.settings(K3sSettings).sha256.items():
        yield from ((k3s_name(version, architecture), digest) for architecture, digest in digests.items())
    helm = host.settings(HelmSettings)
    for architecture, digest in helm.sha256.items():
        yield helm_name(helm.version, architecture), digest
    charts = {GPU: host.settings(GpuOperatorSettings), NETWORK: host.settings(NetworkOperatorSettings)}
    for operator, settings in charts.items():
        if settings.sha256:
            yield chart_name(operator.release, settings.version), settings.sha256
