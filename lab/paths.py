"""The lab's folders: state, which `gb10 lab down` removes, and a cache, which stays."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from gb10.lab.problem import LabError

APPLICATION = "pyinfra-gb10"


def lab_name() -> str:
    """Return the name of the current lab: GB10_LAB, or "default"."""
    name = os.environ.get("GB10_LAB", "default")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise LabError(f"GB10_LAB is {name!r}, which is not a valid name.", "Use up to 31 of a-z, 0-9 and -.")
    return name


def state_root() -> Path:
    """Return the folder of everything that goes with the last lab (GB10_STATE)."""
    chosen = os.environ.get("GB10_STATE")
    return Path(chosen) if chosen else platformdirs.user_state_path(APPLICATION)


def cache_root() -> Path:
    """Return the folder of what is slow to make and the same for all labs (GB10_CACHE): image and clients."""
    chosen = os.environ.get("GB10_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path(APPLICATION)


def labs_folder() -> Path:
    """Return the folder with one folder a lab."""
    return state_root() / "lab"


def lab_names() -> set[str]:
    """Return the names of all labs that are up or half up."""
    return {path.name for path in labs_folder().glob("*") if path.is_dir()}


def engine_folder() -> Path:
    """Return the folder of the lab's own Docker engine."""
    return state_root() / "engine"


def locks_folder() -> Path:
    """Return the folder of all locks. It is in the cache, because a lock in a removed folder protects nothing."""
    folder = cache_root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def package_folder() -> Path:
    """Return the folder of this package."""
    return Path(__file__).resolve().parent
