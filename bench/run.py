"""Runs every measurement of this folder, one after the other: `make bench`, or `python -m bench.run copy` for some.

Each is a program that prints a table, and ends with a status other than 0 when a figure is missed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"__init__.py", "run.py", "figures.py"}


def main(chosen: list[str]) -> int:
    """Given names of measurements (all without), run them; return how many missed a figure."""
    programs = [path for path in sorted(HERE.glob("*.py")) if path.name not in HELPERS]
    missed = 0
    for program in programs:
        if not chosen or program.stem in chosen:
            # as a module: a program's own folder would come before Python's, and one is called copy as a module there
            command = [sys.executable, "-m", f"bench.{program.stem}"]
            missed += subprocess.run(command, check=False, cwd=HERE.parent).returncode != 0
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
