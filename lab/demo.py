"""The product at work on the lab: two bare nodes become a cluster, tell how they are, and are bare again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

CONSOLE = Console(highlight=False)

ACTS = (
    ("What would be done? Nothing is written yet.", ["bootstrap", "--dry-run"]),
    ("One command, two bare nodes, one cluster.", ["bootstrap"]),
    ("A second run finds nothing to do.", ["bootstrap"]),
    ("How is it?", ["status"]),
    ("And gone again, with nothing left behind.", ["teardown", "--yes"]),
    ("K3s is optional: without it the nodes are as healthy as before.", ["status"]),
)


def main() -> int:
    """Run the acts one after another, as a person would type them. Return the exit status of the first that fails."""
    inventory = str(files("gb10.lab") / "inventory.py")
    started = time.monotonic()
    for title, arguments in ACTS:
        CONSOLE.print()
        CONSOLE.print(Rule(title, style="green", align="left"))
        CONSOLE.print(f"[bold]$ gb10 {' '.join(arguments)}[/]")
        status = subprocess.run(
            [str(Path(sys.executable).with_name("gb10")), *arguments],
            check=False,
            env={**os.environ, "GB10_INVENTORY": inventory},
        ).returncode
        if status:
            CONSOLE.print(f"[red]gb10 {arguments[0]} ended with status {status}: the demo stops here.[/]")
            return status
    CONSOLE.print()
    CONSOLE.print(Rule(f"All that in {time.monotonic() - started:.0f} s.", style="green", align="left"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
