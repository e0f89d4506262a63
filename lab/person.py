"""A simulated person at the lab's machines, for tests and the demo: does what gb10 asks a human to do.

`python -m gb10.lab.person EVENTS` follows the events that `gb10 rebuild run --events EVENTS` writes. It wipes a node
only after gb10 has asked for it and while gb10 still sees the old installation.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gb10.controller.journal import now
from gb10.lab import state as states
from gb10.lab.lab import Lab
from gb10.lab.paths import lab_name
from gb10.lab.shell import Docker

LOOK_SECONDS = 0.1
OLD_INSTALLATION = ("still-there", "unwiped")  # kinds of the event "seen" while the node is not wiped


class Person:
    """Wipes nodes of a lab on request. `wiped` lists them in order."""

    def __init__(self, lab: Lab, keep_data: bool = False, reboots_first: bool = False) -> None:
        self.lab = lab
        self.wiped: list[str] = []
        self._done_at: dict[str, str] = {}  # node -> time of our last wipe
        self._busy = threading.Lock()
        self._keep_data = keep_data
        self._reboots_first = reboots_first

    def wipe(self, node: str) -> None:
        """Reinstall a node from the USB stick."""
        with self._busy:
            self.wiped.append(node)
            self.lab.wipe(node, keep_data=self._keep_data)
        self._done_at[node] = now()

    def fingerprint(self, node: str) -> str:
        """Read a node's host key fingerprint from its own screen, which nobody on the network can change."""
        state = states.require(self.lab.name)
        with self._busy:  # during a wipe the screen shows nothing
            screen = "ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub"
            listed = Docker(state.docker_host).inside(state.node(node).container, screen)
        return listed.split()[1]

    def react(self, event: dict[str, Any]) -> None:
        """Do what an event asks for, if anything."""
        if event.get("event") != "seen" or event.get("kind") not in OLD_INSTALLATION:
            return
        if event["at"] <= self._done_at.get(event["node"], ""):  # seen before our wipe was done
            return
        if self._reboots_first:  # the person misunderstood
            self._reboots_first = False
            self.lab.reboot(event["node"])
        else:
            self.wipe(event["node"])

    def follow(self, events: Path, stop: threading.Event) -> None:
        """React to the events of a file as they are written, until `stop` is set."""
        for event in _read_events(events, stop):
            self.react(event)


def _read_events(path: Path, stop: threading.Event) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines while others write it. The file may not exist yet."""
    done, rest = 0, b""
    while not stop.is_set():
        content = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(done)
                content = file.read()
        done += len(content)
        *lines, rest = (rest + content).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
        if not content:
            time.sleep(LOOK_SECONDS)


@click.command()
@click.argument("events", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--keep-data", is_flag=True, help="Keep /data, as if it were a partition of its own.")
@click.option("--reboot-first", is_flag=True, help="Only reboot at the first request, as a person by mistake might.")
def main(events: Path, keep_data: bool, reboot_first: bool) -> None:
    """Follow EVENTS and wipe a lab node whenever gb10 asks for it, until interrupted."""
    try:
        Person(Lab(lab_name()), keep_data, reboot_first).follow(events, threading.Event())
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
