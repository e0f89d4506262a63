"""Time that a run of the whole cluster takes on the lab.

A second run of the cluster deploy is compared with pyinfra itself: as many operations without changes, each with one
fact.
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
    """Return the median of the seconds that a command takes. Raise CalledProcessError if it fails."""
    times = []
    for _ in range(runs):
        started = time.monotonic()
        run(command, folder)
        times.append(time.monotonic() - started)
    return statistics.median(times)


def run(command: list[str], folder: Path) -> str:
    """Return the standard output of a command. Raise CalledProcessError if it fails."""
    return finished(command, folder).stdout


def finished(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Raise CalledProcessError if it fails."""
    environment = {**os.environ, "GB10_INVENTORY": INVENTORY}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


def bare_deploy(operations: list[set[str]]) -> str:
    """Given the hosts of each operation, return a deploy of as many operations without changes on them."""
    lines = ["from pyinfra.context import host", "from pyinfra.operations import files", ""]
    for hosts in operations:
        lines += [f"if host.name in {sorted(hosts)!r}:", '    files.file(name="Nothing", path="/etc/hostname")']
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the figures. Return 1 if one is missed."""
    figures = Figures("A run of the whole cluster, K3s and both operators, on two nodes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gb10, pyinfra = str(BIN / "gb10"), str(BIN / "pyinfra")
        run([gb10, "teardown", "--yes"], folder)
        figures.note("first gb10 bootstrap, from bare nodes", f"{timed([gb10, 'bootstrap'], folder, runs=1):.1f} s")
        figures.note("second gb10 bootstrap, with its status", f"{timed([gb10, 'bootstrap'], folder):.1f} s")

        cluster = [pyinfra, "--json", "-y", INVENTORY, "gb10.deploys.cluster"]
        results = json.loads(run(cluster, folder))["results"]["operations"]
        hosts = [{*row["success"], *row["no_change"]} for row in results]
        (folder / "bare.py").write_text(bare_deploy(hosts))
        bare = timed([pyinfra, "-y", INVENTORY, "bare.py"], folder)
        ours = timed(cluster, folder)
        count = sum(map(len, hosts))
        figures.note(f"pyinfra, {count} operations that find nothing to do", f"{bare:.2f} s")
        figures.hold(
            f"the cluster deploy, {count} operations that find nothing to do",
            f"{ours:.2f} s = {ours / bare:.2f} x",
            "<= 1.5 x",
            ours <= 1.5 * bare,
        )
        looks = finished([pyinfra, "-y", "-vv", INVENTORY, "gb10.deploys.cluster"], folder).stderr
        status = timed([gb10, "status"], folder)
        figures.hold("gb10 status", f"{status:.2f} s", "< 3 s", status < 3)
        figures.note("SSH commands of a run that finds nothing to do", str(looks.count(">>> ")))
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
