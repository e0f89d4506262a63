"""What all tests have in common."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing here: the machine is shared with the lab.
settings.register_profile("gb10", deadline=None)
settings.load_profile("gb10")

# A shell lets its background jobs ignore Ctrl-C, and children inherit that; those under test are to be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

# With several workers, the files that take longest go first: otherwise one worker ends long after the others.
LONGEST = (
    "faults",
    "rebuild",
    "copy",
    "images",
    "wipe_all",
    "operators",
    "closed_gate",
    "node",
    "bad_luck",
    "validate",
    "download",
    "kube_agent",
    "kube_server",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files, not what is in them."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        path = Path(item.path)
        return ("unit" in path.parts, places.get(path.stem, len(LONGEST)))

    items.sort(key=place)
