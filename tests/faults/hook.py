"""Called by gb10 before and after each step: does to it what the points of this course say, each of them once.

Stands alone, on the standard library, so that it starts in no time: python hook.py FOLDER before|after STEP NODE
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

HELP_SECONDS = 120.0  # for what the campaign does to nodes on our request


def main(folder: Path, moment: str, step: str, node: str) -> int:
    """Do what the next point of this moment wants. Return the exit status of the hook."""
    for point in json.loads((folder / "points.json").read_text()):
        if (point["hook"], point["step"], point["node"]) == (moment, step, node) and _first(folder, point["name"]):
            _strike(folder, point, os.getppid())
            break  # another one of the same step has its turn when the step begins once more
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
    """Kill the wrapper, and write down in the middle of what."""
    try:
        alive = b"gb10" in Path(f"/proc/{wrapper}/cmdline").read_bytes()
    except OSError:
        alive = False
    doing = "in the middle of a run of pyinfra" if _runs_pyinfra(wrapper) else "between two runs of pyinfra"
    said = f"killed {after:.1f} s into it ({doing})" if alive else "it had ended by itself"
    (folder / f"{name}.fired").write_text(said)
    if alive:
        os.kill(wrapper, signal.SIGKILL)


def _runs_pyinfra(wrapper: int) -> bool:
    """Return True if the wrapper has pyinfra at work: its pyinfra process is connected then."""
    return any(_connected(child) for child, words in _children(wrapper) if "gb10.controller.run.process" in words)


def _connected(pid: int) -> bool:
    """Return True if a process has a socket open."""
    try:
        return any(os.readlink(entry.path).startswith("socket:") for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def _children(pid: int) -> list[tuple[int, list[str]]]:
    """The children of a process: the id and the arguments of each."""
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
