"""Folders of gb10's state on the controller."""

from __future__ import annotations

from pathlib import Path

from gb10.controller.errors import Gb10Error
from gb10.operations.backups.state_folder import state_folder


def private_folder(name: str) -> Path:
    """Return a folder below the state folder. Create it, closed to other users, if it does not exist.

    Raise SETTINGS_INVALID if it cannot be created.
    """
    folder = state_folder() / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Gb10Error("SETTINGS_INVALID", f"{folder}, where gb10 keeps its state, is unusable: {error}") from error
    return folder
