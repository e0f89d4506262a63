"""Rebuilds with a person at the boxes."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

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
    """Whether a node has gb10's lock. As root: whoever else looks may not see into its folder."""
    status = host.run("sudo test -e /var/lib/gb10/rebuild.lock").rc
    assert status in (0, 1)
    return bool(status == 0)


class Attended:
    """A rebuild with a person at the boxes, who reads the new host key from the node's own screen."""

    def __init__(self, lab: LabUnderTest, product: Product, *, keep_data: bool = False) -> None:
        self.product = product
        self.person = Person(lab.lab, keep_data)
        self.events = product.folder / "events.jsonl"

    def __call__(self, *arguments: str) -> Done:
        """Begin a rebuild, and go on with it until it ends otherwise than for want of a person."""
        stop = threading.Event()
        person = threading.Thread(target=self.person.follow, args=(self.events, stop))
        person.start()
        try:
            done = self.product.gb10("rebuild", *arguments, "--events", str(self.events), seconds=900)
            while done.status == 7:
                key = self.person.fingerprint(self.person.wiped[-1])
                more = ("--events", str(self.events), "--accept-host-key", key)
                done = self.product.gb10("rebuild", "resume", *more, seconds=900)
            return done
        finally:
            stop.set()
            person.join()

    def heard(self, event: str) -> list[dict[str, Any]]:
        """The events of a name."""
        records = (json.loads(line) for line in self.events.read_text().splitlines())
        return [record for record in records if record["event"] == event]

    def own_seconds(self, node: str) -> float:
        """How long our own work on a node took."""
        done = (record for record in self.heard("step-done") if record["node"] == node and record["kind"] == "own")
        return sum(float(record["seconds"]) for record in done)
