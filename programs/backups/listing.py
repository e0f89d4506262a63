"""What lies in a folder of backups. See programs/backups/store.py for what it consists of.

This file also runs on the nodes, as text for their own python3: standard library only.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

ID = re.compile(r"(?P<node>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<when>\d{8}T\d{6}Z)")


def main(job: dict[str, Any], outlet: object) -> list[dict[str, Any]] | None:
    """Return the listing of the folder job["root"]."""
    return listing(job["root"])


def listing(root: str) -> list[dict[str, Any]] | None:
    """Every backup with its summary, the size of its file and what came of its proofs; None without the folder."""
    if not os.path.isdir(root):
        return None
    found = []
    for node in sorted(os.listdir(root)):
        folder = os.path.join(root, node)
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for name in names:
            match = ID.fullmatch(name.partition(".tar.gz")[0])
            if match and match["node"] == node and name.endswith((".tar.gz", ".tar.gz.age")):
                found.append(_backup(folder, node, match[0], name))
    return found


def _backup(folder: str, node: str, backup: str, name: str) -> dict[str, Any]:
    return {
        "node": node,
        "id": backup,
        "file": name,
        "file_size": os.lstat(os.path.join(folder, name)).st_size,
        "summary": _json(os.path.join(folder, f"{backup}.json")),
        "proofs": _json(os.path.join(folder, f"{backup}.proof.json")).get("copies", []),
    }


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    print(json.dumps(listing(sys.argv[1])))
