"""Misspelt settings of an inventory: where they stand, and what was probably meant.

Other people's data are left alone: only a name that begins as ours do, or that is nearly one of ours, is looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pyinfra.api import Inventory

from gb10.group_data.settings import PYINFRA_SSH, SETTINGS, TOPICS, did_you_mean

KNOWN = (*SETTINGS, *PYINFRA_SSH)
PREFIXES = (*sorted({topic.prefix for topic in TOPICS} - {""}), "restore_", "rdma_plugin_", "models_", "images_")
NEARLY = 0.85  # difflib's ratio: "imges" is nearly "images", "my_images" is not


def is_misspelt(name: str) -> bool:
    """Return True if a name of an inventory is meant to be a setting, and is none."""
    if name in KNOWN or name.startswith("_"):  # those are pyinfra's own
        return False
    return name.startswith(PREFIXES) or bool(get_close_matches(name, KNOWN, n=1, cutoff=NEARLY))


def misspelt(inventory: Inventory, files: Sequence[str]) -> list[str]:
    """
    Return one line for each misspelt setting of an inventory: the hosts or groups that have it, and what was meant.

    + files: where the inventory comes from; group_data/ beside them and in the current folder is searched as well
    """
    found: dict[str, list[str]] = {}
    for place, data in _places(inventory):
        for name in filter(is_misspelt, data):
            found.setdefault(name, []).append(place)
    return [
        f"{', '.join(places)}: {name} is no setting{did_you_mean(name, KNOWN)}{_written(name, files)}"
        for name, places in found.items()
    ]


def _places(inventory: Inventory) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where an inventory may say something, and what it says there."""
    yield "--data", inventory.override_data
    yield "all", inventory.data
    for group, data in inventory.group_data.items():
        if group in inventory.groups:  # group_data/ may have a file for a group without hosts
            yield f"group {group}", data
    for host in inventory:
        yield host.name, inventory.get_host_data(host.name)


def _written(name: str, files: Iterable[str]) -> str:
    """Return " (FILE, line N)" for the first place where a name is written as a setting; "" where none is found."""
    folders = dict.fromkeys(folder / "group_data" for folder in (Path(), *(Path(file).parent for file in files)))
    group_data = (path for folder in folders for path in sorted(folder.glob("*.py")))
    for path in (*map(Path, files), *group_data):
        for line in _lines(path, name):
            return f" ({path}, line {line})"
    return ""


def _lines(path: Path, name: str) -> Iterator[int]:
    """Yield the lines of a Python file in which a name is assigned, or is the key of a dictionary."""
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        keys = node.keys if isinstance(node, ast.Dict) else []
        yield from (key.lineno for key in keys if isinstance(key, ast.Constant) and key.value == name)
        if isinstance(node, ast.keyword) and node.arg == name:
            yield node.lineno
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            yield node.lineno
