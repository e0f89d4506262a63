"""Where gb10 keeps what it remembers on the controller."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_state_path


def state_folder() -> Path:
    """Return the folder for logs, locks and backups: $GB10_STATE, or the user's state folder."""
    override = os.environ.get("GB10_STATE")
    return Path(override).expanduser() if override else user_state_path("pyinfra-gb10")


def backups_folder() -> Path:
    """Return the folder of the controller's copies of backups: $GB10_BACKUPS, or one of the state folder."""
    override = os.environ.get("GB10_BACKUPS")
    return Path(override).expanduser() if override else state_folder() / "backups"


def journal_folder() -> Path:
    """Return the folder of the journals of rebuilds and full wipes."""
    return state_folder() / "journal"
