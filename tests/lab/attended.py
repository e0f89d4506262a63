"""Rebuilds with a simulated person who wipes the nodes."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from gb10.controller.errors import ExitStatus
from gb10.lab.person import Person
from tests.lab.product import Done, Product

if TYPE_CHECKING:
    from tests.lab.conftest import LabUnderTest

HEAD, WORKER = "spark-1", "spark-2"
SETTINGS: dict[str, Any] = {
    "rebuild_solo_seconds": 2,
    "rebuild_validate_without": ["rail-mtu", "rail-bandwidth"],
    "validate_bandwidth_seconds": 1,
}


def locked(host: Any) -> bool:
    """Return True if a node is locked by gb10. Only root can read the lock's folder."""
    status = host.run("sudo test -e /var/lib/gb10/rebuild.lock").rc
    assert status in (0, 1)
    return bool(status == 0)


class AttendedRebuild:
    """A rebuild with a person who wipes the nodes and reads each new host key from the node's own screen."""

    def __init__(self, lab: LabUnderTest, product: Product, *, keep_data: bool = False) -> None:
        self.product = product
        self.person = Person(lab.lab, keep_data)
        self.events = product.folder / "events.jsonl"

    def __call__(self, *arguments: str) -> Done:
        """Start a rebuild and resume it, with the new host key, as long as it waits for a person."""
        stop = threading.Event()
        person = threading.Thread(target=self.person.follow, args=(self.events, stop))
        person.start()
        try:
            done = self.product.gb10("rebuild", *arguments, "--events", str(self.events), seconds=900)
            while done.status == ExitStatus.WAITING:
                key = self.person.fingerprint(self.person.wiped[-1])
                more = ("--events", str(self.events), "--accept-host-key", key)
                done = self.product.gb10("rebuild", "resume", *more, seconds=900)
            return done
        finally:
            stop.set()
            person.join()

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the recorded events of one name."""
        records = (json.loads(line) for line in self.events.read_text().splitlines())
        return [record for record in records if record["event"] == event]

    def own_seconds(self, node: str) -> float:
        """Return the seconds of gb10's own work on a node, without waits for the person and the node."""
        done = (record for record in self.records("step-done") if record["node"] == node and record["kind"] == "own")
        return sum(float(record["seconds"]) for record in done)
