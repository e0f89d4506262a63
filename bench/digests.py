"""Measure what the gate's proof by digest costs per TiB, on this machine's disk, the first and the second time."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figures
from gb10.programs.answer import Outlet
from gb10.programs.digests import SETTLED_NS, sha256_of_all

FILES, FILE_BYTES = 8, 128 << 20  # 1 GiB
PER_TIB = (1 << 40) / (FILES * FILE_BYTES)


class Silent(Outlet):
    """An outlet without progress."""

    def report(self, **details: object) -> None:
        """Report nothing."""


def make_files(folder: Path) -> list[str]:
    """Write the files, and drop them from the page cache."""
    paths = [folder / f"blob{number}" for number in range(FILES)]
    block = os.urandom(1 << 20)
    for path in paths:
        with path.open("wb") as file:
            for _ in range(FILE_BYTES >> 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    time.sleep(SETTLED_NS / 1e9)
    return [str(path) for path in paths]


def seconds_per_tib(paths: list[str], outlet: Outlet, memory: str) -> float:
    """Return how long the digests of a TiB take at the speed of these files."""
    began = time.monotonic()
    sha256_of_all(paths, outlet, memory)
    return (time.monotonic() - began) * PER_TIB


def main() -> int:
    """Measure and print the table. Return 1 if a target is missed."""
    figures = Figures(f"Digests of 1 GiB in {FILES} files ({os.cpu_count()} cores)")
    with tempfile.TemporaryDirectory(prefix="gb10-bench-", dir=Path.home()) as folder:
        paths, outlet = make_files(Path(folder)), Silent("bench", 1 << 20)
        first, second = (seconds_per_tib(paths, outlet, f"{folder}/gb10/digests.json") for _ in range(2))
    figures.add("the first time, per TiB", f"{first:.0f} s")
    figures.add_target("the second time, per TiB", f"{second:.1f} s", "< 1 % of the first", second < first / 100)
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
