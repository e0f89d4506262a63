"""The check that everything is pinned, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyinfra.context import host

from gb10.group_data.settings import PinSettings
from gb10.operations.kit.inventory import read_settings
from gb10.operations.kit.operation import Commands, operation
from gb10.operations.kit.pins import Download, demand_pins


@operation()
def all_pinned(downloads: Callable[[], Sequence[Download]]) -> Commands:
    """
    Refuse downloads without a pin if `require_pins` asks for pins.

    + downloads: returns what this node lacks, from facts
    """
    if read_settings(PinSettings).require_pins:
        demand_pins(downloads())
    host.noop("no pin is missing")
    yield from ()
