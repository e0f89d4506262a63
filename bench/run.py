"""Run all benchmarks of this folder (`make bench`) or some (`python -m bench.run copy`), one after the other.

Each benchmark is a program that prints a table and exits with a status other than 0 if a target is missed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"__init__.py", "run.py", "figures.py"}


def main(chosen: list[str]) -> int:
    """Run the chosen benchmarks, or all. Return the number that missed a target."""
    programs = [path for path in sorted(HERE.glob("*.py")) if path.name not in HELPERS]
    missed = 0
    for program in programs:
        if not chosen or program.stem in chosen:
            # As a module: started by its path, a program would import bench/copy.py instead of Python's own copy.
            command = [sys.executable, "-m", f"bench.{program.stem}"]
            missed += subprocess.run(command, check=False, cwd=HERE.parent).returncode != 0
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
