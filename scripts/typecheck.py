"""Check the types of this project with mypy: `python scripts/typecheck.py`.

mypy finds modules by path and does not follow an editable install: each top-level folder X is published as gb10.X, and
gb10 itself has no folder. So this script gives mypy every file together with its module name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mypy.build import build
from mypy.errors import CompileError
from mypy.fscache import FileSystemCache
from mypy.main import process_options
from mypy.modulefinder import BuildSource

ROOT = Path(__file__).parents[1]
PUBLISHED = re.findall(r"gb10\.\w+ = (\w+)", (ROOT / "setup.cfg").read_text())
OTHERS = ("bench", "scripts", "tests")
NAMESPACE = BuildSource(None, "gb10", text="")


def main() -> int:
    """Check all files, then the programs with the python3 of Ubuntu 22.04. Return the exit status."""
    os.chdir(ROOT)
    published = [source for folder in PUBLISHED for source in sources(folder, "gb10.")]
    others = [source for folder in OTHERS for source in sources(folder)]
    errors = check([NAMESPACE, *published, *others])
    errors += check([NAMESPACE, *sources("programs", "gb10.")], "--python-version=3.10")
    print(f"mypy: {errors} errors in {len(published + others)} files")
    return int(errors > 0)


def sources(folder: str, prefix: str = "") -> Iterator[BuildSource]:
    """Yield the Python files below a folder, each with its module name."""
    for path in sorted(Path(folder).rglob("*.py")):
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        yield BuildSource(str(path), prefix + module)


def check(files: list[BuildSource], *arguments: str) -> int:
    """Print mypy's messages about the files. Return the number of errors."""
    errors = 0

    def show(_: str | None, messages: list[str], __: bool) -> None:
        nonlocal errors
        for message in messages:
            errors += ": error: " in message
            print(message)

    cache = FileSystemCache()
    _, options = process_options(["--config-file=pyproject.toml", *arguments], require_targets=False, fscache=cache)
    options.fast_module_lookup = True  # look for modules among the files first
    with suppress(CompileError):  # show() has printed its messages
        build(files, options, flush_errors=show, fscache=cache)
    return errors


if __name__ == "__main__":
    sys.exit(main())
