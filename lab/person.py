"""The person at the lab's boxes: does what gb10 asks a human for, and is what tests and the demo have instead of one.

Run as `python -m gb10.lab.person EVENTS`: follows the events that `gb10 rebuild run --events EVENTS` writes, wipes a
node when gb10 has asked for it and still sees the old installation, and never another time.
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
OLD_INSTALLATION = ("still-there", "unwiped")  # what gb10 says it sees while nobody has wiped the node yet


class Person:
    """Wipes nodes of a lab when asked. `wiped` are the nodes in the order in which that was done."""

    def __init__(self, lab: Lab, keep_data: bool = False, reboots_first: bool = False) -> None:
        self.lab = lab
        self.wiped: list[str] = []
        self._looked_away: dict[str, str] = {}  # node -> when we were done with it
        self._at_a_box = threading.Lock()
        self._keep_data = keep_data
        self._reboots_first = reboots_first

    def wipe(self, node: str) -> None:
        """Reinstall a node from the USB stick."""
        with self._at_a_box:
            self.wiped.append(node)
            self.lab.wipe(node, keep_data=self._keep_data)
        self._looked_away[node] = now()

    def fingerprint(self, node: str) -> str:
        """What the screen at the box says of its host key: the way by which nobody between can lie."""
        state = states.require(self.lab.name)
        with self._at_a_box:  # while a node is being wiped its screen shows nothing
            screen = "ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub"
            listed = Docker(state.docker_host).inside(state.node(node).container, screen)
        return listed.split()[1]

    def hear(self, event: dict[str, Any]) -> None:
        """Do what an event asks for, if it asks for anything."""
        if event.get("event") != "seen" or event.get("kind") not in OLD_INSTALLATION:
            return
        if event["at"] <= self._looked_away.get(event["node"], ""):  # what gb10 saw while we were at it
            return
        if self._reboots_first:  # a person who misunderstood
            self._reboots_first = False
            self.lab.reboot(event["node"])
        else:
            self.wipe(event["node"])

    def follow(self, events: Path, stop: threading.Event) -> None:
        """Hear the events of a file as they are written, until `stop` is set."""
        for event in _written(events, stop):
            self.hear(event)


def _written(path: Path, stop: threading.Event) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines that others write to, and that may not be there yet."""
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
@click.option("--keep-data", is_flag=True, help="/data survives, as a partition of its own would.")
@click.option("--reboot-first", is_flag=True, help="At first, only reboot: not all persons read instructions.")
def main(events: Path, keep_data: bool, reboot_first: bool) -> None:
    """Follow EVENTS, and wipe a node of the lab whenever gb10 asks for it, until interrupted."""
    try:
        Person(Lab(lab_name()), keep_data, reboot_first).follow(events, threading.Event())
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
