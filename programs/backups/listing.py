"""The listing of a folder of backups. programs/backups/store.py says what lies in it."""

from __future__ import annotations

import json
import os
import re
from typing import Any

ID = re.compile(r"(?P<node>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<when>\d{8}T\d{6}Z)", re.ASCII)


def main(job: dict[str, Any], outlet: object) -> list[dict[str, Any]] | None:
    return listing(job["root"])


def listing(root: str) -> list[dict[str, Any]] | None:
    """Return every backup with its summary, file size and proof results, or None if there is no folder."""
    if not os.path.isdir(root):
        return None
    found = []
    for node in sorted(os.listdir(root)):
        folder = os.path.join(root, node)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            backup = name.partition(".tar.gz")[0]
            match = ID.fullmatch(backup)
            if match and match["node"] == node and name.endswith((".tar.gz", ".tar.gz.age")):
                entry: dict[str, Any] = {"node": node, "id": backup, "file": name}
                entry["file_size"] = os.lstat(os.path.join(folder, name)).st_size
                entry["summary"] = _json(os.path.join(folder, f"{backup}.json"))
                entry["proofs"] = _json(os.path.join(folder, f"{backup}.proof.json")).get("copies", [])
                found.append(entry)
    return found


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
