"""The hook that gb10 calls before and after each step: inject each fault of this batch once.

It imports only the standard library, so that it starts quickly: python hook.py FOLDER before|after STEP NODE
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

HELP_SECONDS = 120.0  # for the campaign to inject a fault on a node
ENDED = "gb10 had ended before"


def main(folder: Path, moment: str, step: str, node: str) -> int:
    """Inject the next fault for this moment, if any. Return the exit status of the hook."""
    for point in json.loads((folder / "points.json").read_text()):
        if (point["hook"], point["step"], point["node"]) == (moment, step, node) and _first(folder, point["name"]):
            _strike(folder, point, os.getppid())
            break  # another fault of this step comes when the step begins again
    return 0


def _first(folder: Path, name: str) -> bool:
    try:
        (folder / f"{name}.fired").open("x").close()
    except FileExistsError:
        return False
    return True


def _strike(folder: Path, point: dict[str, Any], wrapper: int) -> None:
    if point["fault"] != "kill":
        (folder / f"{point['name']}.wanted").touch()
        deadline = time.monotonic() + HELP_SECONDS
        while not (folder / f"{point['name']}.done").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    elif point["delay"] is None:
        _kill(folder, point["name"], wrapper, 0.0)
    elif os.fork() == 0:
        os.setsid()
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(point["delay"])
        _kill(folder, point["name"], wrapper, point["delay"])
        os._exit(0)


def _kill(folder: Path, name: str, wrapper: int, after: float) -> None:
    """Kill the wrapper and record whether pyinfra was running."""
    try:
        alive = b"gb10" in Path(f"/proc/{wrapper}/cmdline").read_bytes()
    except OSError:
        alive = False
    doing = "during a run of pyinfra" if _runs_pyinfra(wrapper) else "between two runs of pyinfra"
    happened = f"killed after {after:.1f} s ({doing})" if alive else ENDED
    (folder / f"{name}.fired").write_text(happened)
    if alive:
        os.kill(wrapper, signal.SIGKILL)


def _runs_pyinfra(wrapper: int) -> bool:
    """Return True if the wrapper's pyinfra process works, so that it has a connection."""
    return any(_connected(child) for child, words in _children(wrapper) if "gb10.controller.run.process" in words)


def _connected(pid: int) -> bool:
    """Return True if a process has a socket open."""
    try:
        return any(os.readlink(entry.path).startswith("socket:") for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def _children(pid: int) -> list[tuple[int, list[str]]]:
    """Return the id and the arguments of each child of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = entry.joinpath("stat").read_text().rpartition(")")[2].split()[1] if entry.name.isdigit() else ""
            if parent == str(pid):
                found.append((int(entry.name), entry.joinpath("cmdline").read_text(errors="replace").split("\0")))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:5]))
