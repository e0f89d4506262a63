"""Where gb10 keeps what it remembers on the controller."""

from __future__ import annotations

from pathlib import Path

from gb10.controller.errors import Gb10Error
from gb10.operations.backups.state_folder import state_folder


def private_folder(name: str) -> Path:
    """Given a name, return that folder below the state folder, made if need be and closed to others.

    Raise SETTINGS_INVALID where it cannot be made.
    """
    folder = state_folder() / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Gb10Error("SETTINGS_INVALID", f"{folder}, where gb10 keeps its state, is unusable: {error}") from error
    return folder
