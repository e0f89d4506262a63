"""The folder of a receiver below /run, which systemd removes with its unit; lists the running copies of a node.

job.json        the copy, with its secret
receiver.pyz    the program of the unit
answer.json     {"ports": {RAIL: PORT}} once the unit listens, or {"refused": [CODE, REASON]}
progress.json   the progress of the sender
"""

from __future__ import annotations

import glob
import json
import os
from typing import Any

from gb10.programs.answer import Outlet
from gb10.programs.files import finish

FOLDERS = "/run/gb10-copy-*"
JOB = "job.json"
PROGRAM = "receiver.pyz"
ANSWER = "answer.json"
PROGRESS = "progress.json"


def main(job: dict[str, Any], outlet: Outlet) -> list[dict[str, Any]]:
    """Return each running copy with its root and progress. The job also holds a secret, which is not returned."""
    found = []
    for path in glob.glob(f"{FOLDERS}/{JOB}"):
        folder = os.path.dirname(path)
        try:
            progress = _read(folder, PROGRESS) if os.path.exists(os.path.join(folder, PROGRESS)) else {}
            found.append({"id": folder.rpartition("-")[2], "root": read_job(folder)["root"], "now": progress})
        except FileNotFoundError:
            continue  # it has ended
    return found


def write_file(path: str, text: str) -> None:
    """Write a file that only root can read, and rename it into place once complete."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", errors="surrogateescape") as file:
        file.write(text)
        finish(file, f"{path}.new", path)


def read_job(folder: str) -> dict[str, Any]:
    return _read(folder, JOB)


def _read(folder: str, name: str) -> dict[str, Any]:
    with open(os.path.join(folder, name)) as file:
        found: dict[str, Any] = json.load(file)
    return found
