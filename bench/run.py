"""Run every measurement of this folder, one after the other: `make bench`, or `python -m bench.run copy` for some.

Each is a program that prints a table and exits with a status other than 0 if it misses a figure.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"__init__.py", "run.py", "figures.py"}


def main(chosen: list[str]) -> int:
    """Run the chosen measurements, all if none is chosen. Return how many missed a figure."""
    programs = [path for path in sorted(HERE.glob("*.py")) if path.name not in HELPERS]
    missed = 0
    for program in programs:
        if not chosen or program.stem in chosen:
            # Run as a module: by path, bench/copy.py would hide Python's copy.
            command = [sys.executable, "-m", f"bench.{program.stem}"]
            missed += subprocess.run(command, check=False, cwd=HERE.parent).returncode != 0
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
