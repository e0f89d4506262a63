"""Measure the time and memory of a backup of a lab node with 200 MB of files.

The files are random, so they do not compress. GB10_BENCH_BACKUP_MB sets a smaller size. The backup goes to the
controller and to the other node; then both copies are proven.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.copy import Bench
from bench.figures import Figures
from gb10.controller.run.runner import Runner
from gb10.facts.reading.requests import LOADER
from gb10.lab.lab import Lab
from gb10.lab.paths import lab_name

SET_BYTES = int(os.environ.get("GB10_BENCH_BACKUP_MB", "200")) * 10**6
FOLDER = "/srv/gb10-bench"
NODE = "spark-2"
# Programs on the nodes, and the pyinfra process here: nodes are containers, so their processes are on this machine.
OURS = (LOADER.encode(), b"gb10.controller.run.process")


def make_set(bench: Bench) -> None:
    """Write some large files and many small ones on the node."""
    large, small = SET_BYTES // 5, SET_BYTES // 5 // 400
    bench.on(
        2,
        f"rm -rf {FOLDER}; mkdir -p {FOLDER}; cd {FOLDER}; "
        f"for i in 1 2 3 4; do head -c {large} /dev/urandom > large$i; done; "
        f"for i in $(seq 400); do head -c {small} /dev/urandom > small$i; done",
    )


def memory(stop: threading.Event, found: dict[bytes, int]) -> None:
    """Record the peak memory in bytes of each kind of our processes, until `stop` is set."""
    while not stop.wait(0.1):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                kind = next((kind for kind in OURS if kind in command and b"timeout" not in command), None)
                if kind and (most := re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())):
                    found[kind] = max(found.get(kind, 0), int(most[1]) * 1024)
            except OSError:
                continue


def run(bench: Bench, deploy: str) -> float:
    """Run a deploy on the node and return its seconds. Raise an error if it fails."""
    begin = time.monotonic()
    Runner(bench.inventory, bench.log, limit=[NODE]).run(deploy, data={"backup_paths": [FOLDER]}).check()
    return time.monotonic() - begin


def measure(bench: Bench, figures: Figures) -> None:
    """Time a backup without the files, then with them, then the proof."""
    bare = run(bench, "gb10.deploys.backup")
    make_set(bench)
    stop, found = threading.Event(), dict[bytes, int]()
    watcher = threading.Thread(target=memory, args=(stop, found))
    watcher.start()
    try:
        seconds = run(bench, "gb10.deploys.backup")
        proof = run(bench, "gb10.deploys.prove_backup")
    finally:
        stop.set()
        watcher.join()
    figures.add("backup without the files", f"{bare:.1f} s")
    figures.add_target(
        "backup with the files, to controller and other node", f"{seconds:.1f} s", "< 10 s", seconds < 10
    )
    figures.add("proof of both copies", f"{proof:.1f} s")
    most = max(found.values(), default=0)
    figures.add_target("memory of the largest process", f"{most / 1e6:.0f} MB", "< 200 MB", 0 < most < 200e6)


def main() -> int:
    """Measure and print the table. Return 1 if a target is missed."""
    bench = Bench(Lab(lab_name()).up(2))
    figures = Figures(f"Backup of a node with {SET_BYTES // 10**6} MB of files ({os.cpu_count()} cores for all)")
    with tempfile.TemporaryDirectory(prefix="gb10-bench-") as folder:
        os.environ["GB10_BACKUPS"] = folder
        try:
            measure(bench, figures)
        finally:
            bench.on(2, f"rm -rf {FOLDER}")
            bench.on(1, f"rm -rf /data/backups/{NODE}")
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
