"""The demo: build a cluster from two nodes, serve a model, rebuild one node, remove K3s."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from gb10.controller.errors import ExitStatus
from gb10.lab.lab import Lab
from gb10.lab.paths import lab_name
from gb10.lab.person import Person

CONSOLE = Console(highlight=False)
NODE = "spark-2"
# The lab's rails are too slow for the bandwidth check, and the demo should not wait for long.
SHORTCUTS = {"rebuild_solo_seconds": 3, "rebuild_validate_without": ["rail-bandwidth"]}

BEFORE = (
    ("Show what bootstrap would change. Nothing is written yet.", ["bootstrap", "--dry-run"]),
    ("Build a cluster from two nodes with one command.", ["bootstrap"]),
    ("Download vLLM's image and two models.", ["lab", "download", "spark-1", "spark-2"]),
    ("Serve a large model on both nodes, with plain Docker beside K3s.", ["serving", "cluster"]),
    ("Plan the rebuild of a node.", ["rebuild", "plan", NODE]),
)
AFTER = (
    ("Show the cluster's status.", ["status"]),
    ("Show how long each step of the rebuild took.", ["rebuild", "history", "last"]),
    ("Remove K3s and nothing else.", ["teardown", "--yes"]),
    ("The model still answers.", ["serving", "show"]),
)


class Demo:
    """The commands of the demo, in order, as a person would type them."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "inventory.py"
        self.events = folder / "events.jsonl"
        self.person = Person(Lab(lab_name()))
        lab = files("gb10.lab") / "inventory.py"
        self.inventory.write_text(
            f"exec(open({str(lab)!r}).read())\n"
            f"head, workers = ([(name, {{**data, **{SHORTCUTS!r}}}) for name, data in group] for group in groups())\n"
        )

    def run(self, title: str, arguments: list[str]) -> int:
        """Show a command and run it. Return its exit status."""
        CONSOLE.print()
        CONSOLE.print(Rule(title, style="green", align="left"))
        CONSOLE.print(f"[bold]$ gb10 {' '.join(arguments)}[/]")
        return subprocess.run(
            [str(Path(sys.executable).with_name("gb10")), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "GB10_INVENTORY": str(self.inventory),
                "GB10_BACKUPS": str(self.events.parent / "backups"),
            },
        ).returncode

    def run_all(self, steps: tuple[tuple[str, list[str]], ...]) -> None:
        """Run several commands. Raise SystemExit with the exit status of the first that fails."""
        for title, arguments in steps:
            if status := self.run(title, arguments):
                CONSOLE.print(f"[red]gb10 {arguments[0]} failed with status {status}. The demo stops.[/]")
                raise SystemExit(status)

    def rebuild(self) -> None:
        """Rebuild a node, with a simulated person who wipes it and reads its new host key from the screen."""
        stop = threading.Event()
        threading.Thread(target=self.person.follow, args=(self.events, stop), daemon=True).start()
        more = ["--events", str(self.events)]
        title = f"Rebuild {NODE} while {NODE.replace('2', '1')} serves. A simulated person wipes the node."
        status = self.run(title, ["rebuild", "run", NODE, *more])
        if status == ExitStatus.WAITING:
            key = self.person.fingerprint(NODE)
            resume = ["rebuild", "resume", "--accept-host-key", key, *more]
            self.run_all(((f"Accept the new host key that {NODE}'s own screen shows, and resume.", resume),))
        elif status:
            raise SystemExit(status)
        stop.set()


def main() -> None:
    """Run the demo. Raise SystemExit with the exit status of the first command that fails."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        demo.run_all((("Prepare two factory-new nodes.", ["provision", "spark-1", "spark-2"]),))
        demo.run_all(BEFORE)
        demo.rebuild()
        demo.run_all(AFTER)
    CONSOLE.print()
    CONSOLE.print(Rule(f"Done in {time.monotonic() - started:.0f} s.", style="green", align="left"))


if __name__ == "__main__":
    main()
