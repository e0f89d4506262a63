"""Pins of downloads: the digest in group data, else the one that gb10.lock has from the first use.

The contract: what is downloaded without a pin is not used before its digest stands in gb10.lock. A dry run writes
nothing there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError
from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.file import SecretFile
from gb10.group_data.settings import PinSettings
from gb10.operations.kit import lock_file
from gb10.operations.kit.inventory import read_settings
from gb10.operations.kit.lock_file import Locked
from gb10.operations.kit.operation import Commands, known
from gb10.programs.answer import RefusedError

_inventory: str | None = None


@dataclass(frozen=True)
class Download:
    """Something that is downloaded, and its digest in group data, if any."""

    name: str  # in gb10.lock
    source: str
    sha256: str | None = None
    setting: str = ""  # that takes the digest


@dataclass(frozen=True)
class Pin:
    """The digest that a download must have; None at its first use."""

    name: str
    source: str
    sha256: str | None
    is_locked: bool  # it is the one of gb10.lock

    @property
    def locked(self) -> str:
        """Name in gb10.lock if the digest is from there, else ""."""
        return self.name if self.is_locked else ""


def look_beside(inventory: str) -> None:
    """Look for gb10.lock beside this inventory. Under pyinfra's own command its arguments name the inventory."""
    global _inventory  # noqa: PLW0603 - one for the process, as its inventory is
    _inventory = inventory


def lock_path() -> Path:
    """Return the lock file of this host's inventory."""
    if chosen := read_settings(PinSettings).pins_file:
        return Path(chosen).expanduser()
    named = _inventory or next((word for word in sys.argv[1:] if word.endswith(".py")), "")
    return lock_file.beside(named)


def demand_pins(downloads: Iterable[Download]) -> None:
    """Raise RefusedError for downloads that have no pin although `require_pins` asks for one."""
    if not read_settings(PinSettings).require_pins:
        return
    path = lock_path()
    pins = lock_file.read(path)
    missing = [f"{one.name} (set {one.setting})" for one in downloads if not one.sha256 and one.name not in pins]
    if missing:
        raise RefusedError("PIN_MISSING", f"neither group data nor {path} has a digest of {', '.join(missing)}")


def pin_of(download: Download) -> Pin:
    """Return the pin of a download. Raise RefusedError if it has none although `require_pins` asks for one."""
    demand_pins([download])
    return known_pin(download)


def known_pin(download: Download) -> Pin:
    """Return the pin of a download: of group data, else of gb10.lock."""
    source = lock_file.without_login(download.source)
    if download.sha256:
        return Pin(download.name, source, download.sha256, is_locked=False)
    locked = lock_file.read(lock_path()).get(download.name)
    return Pin(download.name, source, locked.sha256 if locked else None, is_locked=locked is not None)


def pinned(pin: Pin, path: str) -> Commands:
    """Pin what this node downloaded to `path`, if that is the first use. Remove it if another node's differs."""
    if pin.sha256:
        return
    found = known(SecretFile, path=path)
    if found is None:
        raise RefusedError("DOWNLOAD_FAILED", f"{path} is gone from {host.name}")
    try:
        keep(pin, found.sha256)
    except RefusedError:
        yield StringCommand("rm -f", QuoteString(path))
        raise


def keep(pin: Pin, sha256: str) -> None:
    """Have the digest of a first use in gb10.lock. Raise RefusedError if another one stands there by now."""
    if pin.sha256:
        return
    try:
        found = Locked(sha256=sha256, source=pin.source)
    except ValidationError as error:
        raise RefusedError("NODE_ANSWER", f"{host.name} has no digest for {pin.name}") from error
    stands = lock_file.record(lock_path(), pin.name, found)
    agree(replace(pin, sha256=stands.sha256, is_locked=True), sha256)


def agree(pin: Pin, sha256: str) -> None:
    """Raise RefusedError if gb10.lock has another digest than this one."""
    if pin.is_locked and pin.sha256 != sha256:
        text = f"{pin.name}: {pin.source} has sha256 {sha256}, {lock_path()} has {pin.sha256}; nothing was replaced"
        raise RefusedError("PIN_DIFFERS", text)
