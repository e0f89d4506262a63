"""Time a run of the whole cluster on the running lab.

The second run of the cluster deploy is compared with pyinfra itself: the same number of operations without changes,
each with one fact.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from bench.figures import Figures

RUNS = 5
BIN = Path(sys.executable).parent
INVENTORY = str(files("gb10.lab") / "inventory.py")


def timed(command: list[str], folder: Path, runs: int = RUNS) -> float:
    """Run a command several times and return its median time in seconds. Raise CalledProcessError if it fails."""
    times = []
    for _ in range(runs):
        started = time.monotonic()
        run(command, folder)
        times.append(time.monotonic() - started)
    return statistics.median(times)


def run(command: list[str], folder: Path) -> str:
    """Run a command and return its standard output. Raise CalledProcessError if it fails."""
    return finished(command, folder).stdout


def finished(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command and return the finished process. Raise CalledProcessError if it fails."""
    environment = {**os.environ, "GB10_INVENTORY": INVENTORY}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


def bare_deploy(operations: list[set[str]]) -> str:
    """Return a deploy with one operation without changes for each of the given sets of hosts."""
    lines = ["from pyinfra.context import host", "from pyinfra.operations import files", ""]
    for hosts in operations:
        lines += [f"if host.name in {sorted(hosts)!r}:", '    files.file(name="Nothing", path="/etc/hostname")']
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and print the table. Return 1 if a target is missed."""
    figures = Figures("Run of the whole cluster, K3s and both operators, on two nodes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gb10, pyinfra = str(BIN / "gb10"), str(BIN / "pyinfra")
        run([gb10, "teardown", "--yes"], folder)
        figures.add("first gb10 bootstrap, on bare nodes", f"{timed([gb10, 'bootstrap'], folder, runs=1):.1f} s")
        figures.add("second gb10 bootstrap, with its status", f"{timed([gb10, 'bootstrap'], folder):.1f} s")

        cluster = [pyinfra, "--json", "-y", INVENTORY, "gb10.deploys.cluster"]
        results = json.loads(run(cluster, folder))["results"]["operations"]
        hosts = [{*row["success"], *row["no_change"]} for row in results]
        (folder / "bare.py").write_text(bare_deploy(hosts))
        bare = timed([pyinfra, "-y", INVENTORY, "bare.py"], folder)
        ours = timed(cluster, folder)
        count = sum(map(len, hosts))
        figures.add(f"pyinfra, {count} operations without changes", f"{bare:.2f} s")
        figures.add_target(
            f"cluster deploy, {count} operations without changes",
            f"{ours:.2f} s = {ours / bare:.2f} x",
            "<= 1.5 x",
            ours <= 1.5 * bare,
        )
        looks = finished([pyinfra, "-y", "-vv", INVENTORY, "gb10.deploys.cluster"], folder).stderr
        status = timed([gb10, "status"], folder)
        figures.add_target("gb10 status", f"{status:.2f} s", "< 3 s", status < 3)
        figures.add("SSH commands of a run without changes", str(looks.count(">>> ")))
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
