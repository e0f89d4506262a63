"""The folder of a receiver below /run. systemd removes it with the unit.

job.json        the copy, with its secret
receiver.pyz    the program of the unit
answer.json     {"ports": {RAIL: PORT}} once the unit listens, or {"refused": [CODE, REASON]}
progress.json   how far the sender is
"""

from __future__ import annotations

import json
import os
import zipfile
from sys import modules
from typing import Any

from gb10.programs.files import finish

JOB = "job.json"
PROGRAM = "receiver.pyz"
ANSWER = "answer.json"
PROGRESS = "progress.json"
START = "import sys\nfrom gb10.programs.copying.receiving.unit import main\nmain(sys.argv[1:])\n"


def write_file(path: str, text: str) -> None:
    """Write a file that only root can read, and rename it into place once complete."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", errors="surrogateescape") as file:
        file.write(text)
        finish(file, f"{path}.new", path)


def write_program(path: str) -> None:
    """Write all of our loaded modules into a zip file that python3 can run."""
    texts = {"__main__": START}
    for name, module in list(modules.items()):
        if name == "gb10" or name.startswith("gb10."):
            loader: Any = module.__spec__ and module.__spec__.loader
            place = name.replace(".", "/")
            texts[f"{place}/__init__" if hasattr(module, "__path__") else place] = loader.get_source(name) or ""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for place, text in texts.items():
            archive.writestr(f"{place}.py", text)


def read_job(folder: str) -> dict[str, Any]:
    """Return the job of a receiver."""
    with open(os.path.join(folder, JOB)) as file:
        job: dict[str, Any] = json.load(file)
    return job
