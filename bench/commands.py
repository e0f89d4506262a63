"""Time commands that change nothing, on the running lab.

GB10_BENCH_BESIDE names another checkout with its own .venv. Its commands then run in turns with ours, and ours must
not be slower.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figures

ROUNDS = 7
HERE = Path(__file__).parents[1]
COMMANDS = {
    "gb10 status": ("status",),
    "gb10 bootstrap, without changes": ("bootstrap",),
    "gb10 rebuild plan": ("rebuild", "plan", "spark-2"),
}
MOST = 1.05  # times the other checkout's time; two equal checkouts differ by as much


def seconds(checkout: Path, words: tuple[str, ...], folder: Path) -> float:
    """Run a checkout's command with its own lab inventory and return the seconds. Raise SystemExit if it fails."""
    environment = {**os.environ, "GB10_INVENTORY": str(checkout / "lab/inventory.py")}
    command = [str(checkout / ".venv/bin/gb10"), *words]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def measure(figures: Figures, checkouts: list[Path], folder: Path) -> None:
    """Time each command, in turns between the checkouts."""
    for name, words in COMMANDS.items():
        rounds = [[seconds(checkout, words, folder) for checkout in checkouts] for _ in range(ROUNDS)]
        ours, *others = (statistics.median(times) for times in zip(*rounds, strict=True))
        figures.add(name, f"{ours:.2f} s")
        for other in others:
            share = ours / other
            figures.add_target(
                "... compared with the other checkout", f"{other:.2f} s: {share:.2f} x", f"<= {MOST} x", share <= MOST
            )


def main() -> int:
    """Measure and print the table. Return 1 if a target is missed."""
    beside = os.environ.get("GB10_BENCH_BESIDE")
    checkouts = [HERE, *([Path(beside).resolve()] if beside else [])]
    figures = Figures(f"Commands that change nothing, median of {ROUNDS} runs on two nodes")
    with tempfile.TemporaryDirectory(prefix="gb10-bench-") as folder:
        for checkout in checkouts:
            seconds(checkout, ("bootstrap",), Path(folder))
        measure(figures, checkouts, Path(folder))
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
