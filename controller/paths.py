"""Where gb10 keeps what it remembers on the controller."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_state_path

from gb10.controller.errors import Gb10Error


def state_folder() -> Path:
    """The folder for logs and locks: $GB10_STATE, or the user's state folder."""
    override = os.environ.get("GB10_STATE")
    return Path(override).expanduser() if override else user_state_path("pyinfra-gb10")


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
