"""Where the lab keeps what: state that `gb10 lab down` removes, and a cache that stays."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from gb10.lab.problem import LabError

APPLICATION = "pyinfra-gb10"


def lab_name() -> str:
    """The name of the lab that this shell talks about: GB10_LAB, or "default"."""
    name = os.environ.get("GB10_LAB", "default")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise LabError(f"GB10_LAB is {name!r}, which is no lab's name.", "Use up to 31 of a-z, 0-9 and -.")
    return name


def state_root() -> Path:
    """The folder of everything that lives only as long as a lab does (GB10_STATE)."""
    chosen = os.environ.get("GB10_STATE")
    return Path(chosen) if chosen else platformdirs.user_state_path(APPLICATION)


def cache_root() -> Path:
    """The folder of what is slow to make and the same for every lab (GB10_CACHE): image, clients, wheels."""
    chosen = os.environ.get("GB10_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path(APPLICATION)


def labs_folder() -> Path:
    """The folder that holds one folder per lab."""
    return state_root() / "lab"


def lab_names() -> set[str]:
    """The names of all labs that are up, or were left half up."""
    return {path.name for path in labs_folder().glob("*") if path.is_dir()}


def engine_folder() -> Path:
    """The folder of the Docker engine that the lab starts where none answers."""
    return state_root() / "engine"


def locks_folder() -> Path:
    """The folder of all locks, in the cache: a lock in a folder that is removed under it would lock nobody out."""
    folder = cache_root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def package_folder() -> Path:
    """The folder of this package, beside which the image's files lie."""
    return Path(__file__).resolve().parent
