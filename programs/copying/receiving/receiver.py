"""The receiver of a copy, as its unit runs it.

A large file grows in the staging folder, beside a map of what has arrived, so that a later copy can continue after a
kill at any time. The file gets its name when it is complete and on the disk.

The contract: only the peer with the secret is served, nothing is written outside the target folder, and the receiver
ends when the sender is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.confined import real
from gb10.programs.copying.protocol import code_of, encoded, reason_of
from gb10.programs.copying.receiving.connections import Listener, RsyncDaemon, Serve, log
from gb10.programs.copying.receiving.run_folder import ANSWER, PROGRESS, read_job, write_file
from gb10.programs.copying.receiving.target import StagingFolder, Streams, Target, note_references

GRACE_SECONDS = 5  # in which rsync saves an incomplete file
AWAIT_SENDER_SECONDS = 60
SILENCE_SECONDS = 30  # the sender sends a beat every second
COMPLETING = 4  # files at a time: each waits for the disk

Send = Callable[[dict[str, Any]], None]


class Receiver:
    """One copy."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._job = read_job(folder)
        root = real(self._job["root"])
        self._target = Target(root)
        self._staging = StagingFolder(root)
        self._daemon = RsyncDaemon(folder)
        self._control = Control(folder, self._job["references"], self._target, self._staging, self._daemon.expect)
        self._streams = Streams(self._target, self._staging.temporary, self._control.give_up)

    def run(self) -> None:
        """Receive until the copy ends or the sender is gone. Raise RefusedError."""
        os.umask(0o077)
        signal.signal(signal.SIGTERM, self._stop)
        with self._staging.locked():
            self._staging.clean(self._job)
            self._target.expect(self._job["large"])
            _answer(self._folder, {"ports": self._open()})
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
        self._daemon.configure(os.open(self._target.root, os.O_RDONLY | os.O_DIRECTORY), self._job["secret"], peers)
        serve: dict[str, Serve] = {"control": self._control.serve, "data": self._streams.serve}
        if not self._job["ssh"]:
            serve["rsync"] = self._daemon.serve
        listener = Listener(peers, self._job["secret"].encode(), serve, self._daemon.await_announcement)
        return {name: listener.listen(rail["address"]) for name, rail in rails.items()}

    def _finish(self) -> None:
        """End all connections; keep what has arrived."""
        self._streams.stop()
        deadline = time.monotonic() + GRACE_SECONDS
        while (self._daemon.is_busy or self._streams.is_busy) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._daemon.stop()
        self._control.stop()
        self._staging.tidy()


def serve(folder: str) -> None:
    """Receive the copy whose job is in a folder. Pass a refusal on to `begin`, then raise it."""
    try:
        Receiver(folder).run()
    except RefusedError as error:
        _answer(folder, {"refused": [error.code, error.reason]})
        raise


def _answer(folder: str, document: dict[str, Any]) -> None:
    """Write the answer for `begin`, which has the file open."""
    with open(os.path.join(folder, ANSWER), "w") as file:
        file.write(json.dumps(document) + "\n")


class Control:
    """The control connections of the sender, one for each rail. It notices when the sender is gone."""

    def __init__(
        self,
        folder: str,
        references: dict[str, list[str]],
        target: Target,
        staging: StagingFolder,
        expect_rsync: Callable[[], None],
    ) -> None:
        self.ended = False
        self._folder = folder
        self._references = references
        self._target = target
        self._staging = staging
        self._expect_rsync = expect_rsync
        self._senders: list[Send] = []  # functions that send a message, one for each connection
        self._last_heard: float | None = None  # before the sender came
        self._lock = threading.Lock()
        self._completing = ThreadPoolExecutor(COMPLETING)

    def serve(self, stream: socket.socket) -> None:
        """Serve a control connection until it ends."""
        sending = threading.Lock()

        def send(message: dict[str, Any]) -> None:
            with sending:
                stream.sendall(encoded(message))

        self._last_heard = time.monotonic()
        with self._lock:
            self._senders.append(send)
        try:
            for line in stream.makefile("rb"):
                self._last_heard = time.monotonic()
                self._handle(json.loads(line), send)
        finally:
            with self._lock:
                self._senders.remove(send)

    def _handle(self, request: dict[str, Any], send: Send) -> None:
        match request["do"]:
            case "hello":
                send({"have": {index: part.ranges for index, part in self._target.parts.items()}})
            case "beat":
                with self._lock:  # beats come on every rail
                    write_file(os.path.join(self._folder, PROGRESS), json.dumps(request["progress"]))
                send({"beat": request["number"]})
            case "complete":
                self._completing.submit(self._complete, request["index"], send)
            case "rsync":
                self._expect_rsync()
            case "note":
                for blob, links in self._references.items():
                    note_references(self._target.root, blob, links)
                send({"noted": True})
            case "end":
                self._staging.tidy()
                send({"ended": True})
                self.ended = True

    def _complete(self, index: int, send: Send) -> None:
        try:
            self._target.parts[index].complete()
            with suppress(OSError):
                send({"completed": index})
        except (RefusedError, OSError) as error:
            self.give_up(index, error)

    def give_up(self, index: int, error: Exception) -> None:
        """Report to the sender why the copy cannot continue."""
        with self._lock:
            senders = list(self._senders)
        for send in senders:
            with suppress(OSError):
                send({"failed": index, "code": code_of(error), "reason": reason_of(error)})

    def why_over(self, began: float) -> str | None:
        """Return why the receiver must end, "" if the copy is complete, or None as long as it goes on."""
        now = time.monotonic()
        if self.ended:
            return ""
        if self._last_heard is None:
            return "no sender came" if now - began > AWAIT_SENDER_SECONDS else None
        silent = not self._senders or now - self._last_heard > SILENCE_SECONDS
        return "the sender is gone" if silent else None

    def stop(self) -> None:
        """Wait until no file is being completed."""
        self._completing.shutdown(wait=True)
