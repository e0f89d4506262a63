"""The receiver of a copy, as its unit runs it.

It listens on the rails' addresses only and accepts connections of the peer only: from rsync, which gets an rsync daemon
of this copy, and from our sender.

A large file grows in the workshop, beside a map of what has arrived, so a later copy can go on after a kill at any
time. The file gets its name when it is complete and on the disk.

The contract: only the peer with the secret is served, nothing is written outside the target folder, and the receiver
ends when the sender is gone.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.copying.receiving.control import Control
from gb10.programs.copying.receiving.door import Door, Serve, log
from gb10.programs.copying.receiving.folder import ANSWER, read_job
from gb10.programs.copying.receiving.rsync_daemon import RsyncDaemon
from gb10.programs.copying.receiving.streams import Streams
from gb10.programs.copying.receiving.target import Target
from gb10.programs.copying.receiving.workshop import Workshop

GRACE_SECONDS = 5  # for rsync to keep what it has of a file


class Receiver:
    """One copy."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._job = read_job(folder)
        root = os.path.realpath(self._job["root"])
        self._target = Target(root)
        self._workshop = Workshop(root)
        self._control = Control(folder, self._job["references"], self._target, self._workshop)
        self._streams = Streams(self._target, self._workshop.temporary, self._control.give_up)
        self._daemon = RsyncDaemon(folder)

    def run(self) -> None:
        """Receive until the copy is over or the sender is gone. Raise RefusedError."""
        os.umask(0o077)
        signal.signal(signal.SIGTERM, self._stop)
        with self._workshop.locked():
            self._workshop.clean(self._job)
            self._target.expect(self._job["large"])
            say(self._folder, {"ports": self._open()})
            began = time.monotonic()
            while (over := self._control.why_over(began)) is None:
                time.sleep(0.05)
            if over:
                log(over)
            self._finish()

    def _stop(self, *_: object) -> None:
        self._control.ended = True

    def _open(self) -> dict[str, int]:
        """Listen on every rail; return the ports."""
        rails = self._job["rails"]
        peers = {peer for rail in rails.values() for peer in rail["peers"]}
        self._daemon.configure(self._target.root, self._job["secret"], peers)
        serve: dict[str, Serve] = {"control": self._control.serve, "data": self._streams.serve}
        if not self._job["ssh"]:
            serve["rsync"] = self._daemon.serve
        door = Door(peers, self._job["secret"].encode(), serve)
        return {name: door.listen(rail["address"]) for name, rail in rails.items()}

    def _finish(self) -> None:
        """End all connections and write down what has arrived."""
        self._streams.stop()
        deadline = time.monotonic() + GRACE_SECONDS
        while (self._daemon.is_busy or self._streams.is_busy) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._daemon.stop()
        self._control.stop()
        self._workshop.tidy()


def serve(folder: str) -> None:
    """Receive the copy whose job is in a folder. Raise RefusedError after passing it on to `begin`."""
    try:
        Receiver(folder).run()
    except RefusedError as error:
        say(folder, {"refused": [error.code, error.reason]})
        raise


def say(folder: str, document: dict[str, Any]) -> None:
    """Write the answer for `begin`, which has the file open."""
    with open(os.path.join(folder, ANSWER), "w") as file:
        file.write(json.dumps(document) + "\n")
