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
            found.append({"id": folder.rpartition("-")[2], "root": read_job(folder)["root"], "now": _progress(folder)})
        except FileNotFoundError:
            continue  # it has ended
    return found


def _progress(folder: str) -> dict[str, Any]:
    """Return the progress of a copy, empty until its sender has connected."""
    path = os.path.join(folder, PROGRESS)
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        found: dict[str, Any] = json.load(file)
    return found


def write_file(path: str, text: str) -> None:
    """Write a file that only root can read, and rename it into place once complete."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", errors="surrogateescape") as file:
        file.write(text)
        finish(file, f"{path}.new", path)


def read_job(folder: str) -> dict[str, Any]:
    """Return the job of a receiver."""
    with open(os.path.join(folder, JOB)) as file:
        job: dict[str, Any] = json.load(file)
    return job
