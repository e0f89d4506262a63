"""The product at work: two nodes become a cluster that serves, one is wiped and comes back, and K3s goes."""

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
# The lab's nodes are all on one machine, where rails have no speed to speak of, and where a minute is long.
SHORTCUTS = {"rebuild_solo_seconds": 3, "rebuild_validate_without": ["rail-bandwidth"]}

BEFORE = (
    ("What would be done? Nothing is written yet.", ["bootstrap", "--dry-run"]),
    ("One command, two nodes, one cluster.", ["bootstrap"]),
    ("vLLM's image and two models, as people download them.", ["lab", "download", "spark-1", "spark-2"]),
    ("A large model over both nodes, on plain Docker beside K3s.", ["serving", "cluster"]),
    ("What would the wipe of a node take?", ["rebuild", "plan", NODE]),
)
AFTER = (
    ("How is it?", ["status"]),
    ("And whose time did it take?", ["rebuild", "history", "last"]),
    ("K3s goes away again, and nothing else:", ["teardown", "--yes"]),
    ("the model still answers.", ["serving", "show"]),
)


class Demo:
    """The acts, one after another, as a person would type them."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "inventory.py"
        self.events = folder / "events.jsonl"
        self.person = Person(Lab(lab_name()))
        lab = files("gb10.lab") / "inventory.py"
        self.inventory.write_text(
            f"exec(open({str(lab)!r}).read())\n"
            f"head, workers = ([(name, {{**data, **{SHORTCUTS!r}}}) for name, data in group] for group in groups())\n"
        )

    def act(self, title: str, arguments: list[str]) -> int:
        """Show what is typed, and run it. Return its exit status."""
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

    def acts(self, acts: tuple[tuple[str, list[str]], ...]) -> None:
        """Run acts. Raise SystemExit with the exit status of the first that fails."""
        for title, arguments in acts:
            if status := self.act(title, arguments):
                CONSOLE.print(f"[red]gb10 {arguments[0]} ended with status {status}: the demo stops here.[/]")
                raise SystemExit(status)

    def rebuild(self) -> None:
        """The wipe of a node, with somebody at the box who reads its new host key from the screen."""
        stop = threading.Event()
        somebody = threading.Thread(target=self.person.follow, args=(self.events, stop), daemon=True)
        somebody.start()
        more = ["--events", str(self.events)]
        title = f"{NODE} is wiped while {NODE.replace('2', '1')} answers. Somebody is at the box."
        status = self.act(title, ["rebuild", "run", NODE, *more])
        if status == ExitStatus.WAITING:
            key = self.person.fingerprint(NODE)
            resume = ["rebuild", "resume", "--accept-host-key", key, *more]
            self.acts(((f"The new host key is as {NODE}'s own screen shows it: go on.", resume),))
        elif status:
            raise SystemExit(status)
        stop.set()


def main() -> None:
    """Run all acts; end with the exit status of the first that fails."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        demo.acts((("Two nodes as they come out of the box are made ready.", ["provision", "spark-1", "spark-2"]),))
        demo.acts(BEFORE)
        demo.rebuild()
        demo.acts(AFTER)
    CONSOLE.print()
    CONSOLE.print(Rule(f"All that in {time.monotonic() - started:.0f} s.", style="green", align="left"))


if __name__ == "__main__":
    main()
