"""Measure the gaps in serving and the time of our own work during the rebuild of a node on the running lab.

A probe asks both nodes five times a second during the whole rebuild. A second rebuild is killed once its models are
back, and resumed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.cluster import BIN, INVENTORY
from bench.figures import Figures
from gb10.controller.errors import ExitStatus
from gb10.lab import state as states
from gb10.lab.lab import Lab
from gb10.lab.paths import lab_name
from gb10.lab.person import Person
from gb10.lab.probe import gaps, probed

NODE, KEEPER = "spark-2", "spark-1"
ANSWER_SECONDS = 0.5  # a longer wait counts as a gap
LOAD_SECONDS = 2.5  # of the stand-in for vLLM (lab/vllm.py)
SETTINGS = {"rebuild_validate_without": ["rail-bandwidth"]}  # the lab's rails are too slow for the check


class Rebuilds:
    """The commands of a rebuild, with a simulated person at the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = Lab(lab_name())
        self.person = Person(self.lab)
        self.inventory = folder / "inventory.py"
        self.inventory.write_text(
            f"exec(open({INVENTORY!r}).read())\n"
            f"head, workers = ([(name, {{**data, **{SETTINGS!r}}}) for name, data in group] for group in groups())\n"
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start gb10 in the background."""
        here = {"GB10_INVENTORY": str(self.inventory), "GB10_BACKUPS": str(self.folder / "backups")}
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = [str(BIN / "gb10"), *arguments]
        return subprocess.Popen(command, cwd=self.folder, env={**os.environ, **here}, text=True, **streams)

    def run(self, *arguments: str, accepted: tuple[int, ...] = (0,)) -> tuple[int, str]:
        """Run gb10 and return its exit status and output. Raise SystemExit if the status is not accepted."""
        child = self.start(*arguments)
        output = child.communicate()[0]
        if child.returncode not in accepted:
            raise SystemExit(f"gb10 {' '.join(arguments)} ended with status {child.returncode}:\n{output}")
        return child.returncode, output

    def rebuild(self, events: Path, kill_after: str | None = None) -> str:
        """Rebuild the node and return the last command's output. `kill_after`: kill gb10 once after this step."""
        stop = threading.Event()
        person = threading.Thread(target=self.person.follow, args=(events, stop))
        person.start()
        try:
            status, output = self.run("rebuild", "run", NODE, "--events", str(events), accepted=(0, ExitStatus.WAITING))
            while status == ExitStatus.WAITING:
                key = self.person.fingerprint(NODE)
                arguments = ("rebuild", "resume", "--events", str(events), "--accept-host-key", key)
                if kill_after:
                    self.kill(arguments, events, kill_after)
                    kill_after = None
                status, output = self.run(*arguments, accepted=(0, ExitStatus.WAITING))
            return output
        finally:
            stop.set()
            person.join()

    def kill(self, arguments: tuple[str, ...], events: Path, step: str) -> None:
        """Run gb10 and kill it when a step is done."""
        child = self.start(*arguments)
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        reader = threading.Thread(target=child.stdout.read, daemon=True)
        reader.start()
        while step not in [record["step"] for record in read_events(events, "step-done")]:
            if child.poll() is not None:
                raise SystemExit(
                    f"gb10 {' '.join(arguments)} ended with status {child.returncode} before it could be killed"
                )
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()


def read_events(events: Path, name: str) -> list[dict[str, Any]]:
    """Return the events of one name from a file."""
    records = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    return [record for record in records if record["event"] == name]


def copies(output: str) -> int:
    """Return the number of copies that a command made, from the log that its output names."""
    found = re.search(r"The whole log: (\S+)", output)
    if not found:
        raise SystemExit(f"the command names no log:\n{output}")
    return sum(float(size) > 0 for size in re.findall(r"\] sent ([\d.]+) \S+ in ", Path(found[1]).read_text()))


def main() -> int:
    """Measure and print the table. Return 1 if a target is missed."""
    figures = Figures("Rebuild of one node that runs K3s and serves a model")
    with tempfile.TemporaryDirectory() as name:
        rebuilds = Rebuilds(Path(name))
        state = states.require(lab_name())
        for command in (
            ("provision", KEEPER, NODE),
            ("bootstrap",),
            ("lab", "download", KEEPER, NODE),
            ("serving", "cluster"),
        ):
            rebuilds.run(*command)
        events = Path(name) / "events.jsonl"
        started = time.monotonic()
        addresses = [state.node(node).address("management") for node in (KEEPER, NODE)]
        with probed(addresses, answer_seconds=ANSWER_SECONDS) as seen:
            rebuilds.rebuild(events)
        whole = time.monotonic() - started
        own = sum(record["seconds"] for record in read_events(events, "step-done") if record["kind"] == "own")
        again = rebuilds.rebuild(Path(name) / "again.jsonl", kill_after="models")
    figures.add("whole rebuild, with the person's wipe", f"{whole:.0f} s")
    figures.add_target("our own work in it", f"{own:.0f} s", "<= 120 s", own <= 120)
    found = gaps(seen)
    figures.add_target("gaps in serving", str(len(found)), "2: the announced switches", len(found) == 2)
    most = LOAD_SECONDS + 3
    lengths = ", ".join(f"{gap:.1f} s" for gap in found)
    figures.add_target(
        "length of each gap", lengths, f"<= {most} s: loading + 3 s", max(found, default=most + 1) <= most
    )
    repeated = copies(again)
    figures.add_target("copies made by a run resumed after its copies", str(repeated), "0", repeated == 0)
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
