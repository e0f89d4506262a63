"""The control connections of the sender, one for each rail."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.copying.protocol import code_of, reason_of, said
from gb10.programs.copying.receiving.folder import PROGRESS, write_file
from gb10.programs.copying.receiving.store_notes import note_references
from gb10.programs.copying.receiving.target import Target
from gb10.programs.copying.receiving.workshop import Workshop

AWAIT_SENDER_SECONDS = 60
SILENCE_SECONDS = 30  # the sender speaks every second
COMPLETING = 4  # files at a time: each waits for the disk

Answer = Callable[[dict[str, Any]], None]


class Control:
    """Obeys the sender and knows whether it is still there."""

    def __init__(self, folder: str, references: dict[str, list[str]], target: Target, workshop: Workshop) -> None:
        self.ended = False
        self._folder = folder
        self._references = references
        self._target = target
        self._workshop = workshop
        self._answers: list[Answer] = []  # ways to speak to the sender
        self._last_word = time.monotonic()
        self._seen_sender = False
        self._lock = threading.Lock()
        self._completing = ThreadPoolExecutor(COMPLETING)

    def serve(self, stream: socket.socket) -> None:
        """Serve a control connection until it ends."""
        speaking = threading.Lock()

        def answer(document: dict[str, Any]) -> None:
            with speaking:
                stream.sendall(said(document))

        self._last_word = time.monotonic()
        with self._lock:
            self._answers.append(answer)
            self._seen_sender = True
        try:
            for line in stream.makefile("rb"):
                self._last_word = time.monotonic()
                self._obey(json.loads(line), answer)
        finally:
            with self._lock:
                self._answers.remove(answer)

    def _obey(self, word: dict[str, Any], answer: Answer) -> None:
        match word["do"]:
            case "hello":
                answer({"have": {index: part.ranges for index, part in self._target.parts.items()}})
            case "beat":
                with self._lock:  # beats come on every rail
                    write_file(os.path.join(self._folder, PROGRESS), json.dumps(word["progress"]))
                answer({"beat": word["number"]})
            case "complete":
                self._completing.submit(self._complete, word["index"], answer)
            case "note":
                for blob, links in self._references.items():
                    note_references(self._target.root, blob, links)
                answer({"noted": True})
            case "end":
                self._workshop.tidy()
                answer({"ended": True})
                self.ended = True

    def _complete(self, index: int, answer: Answer) -> None:
        try:
            self._target.parts[index].complete()
            with suppress(OSError):
                answer({"completed": index})
        except (RefusedError, OSError) as error:
            self.give_up(index, error)

    def give_up(self, index: int, error: Exception) -> None:
        """Tell the sender why the copy cannot go on."""
        with self._lock:
            answers = list(self._answers)
        for answer in answers:
            with suppress(OSError):
                answer({"failed": index, "code": code_of(error), "reason": reason_of(error)})

    def why_over(self, began: float) -> str | None:
        """Return why the receiver must end, "" if the copy is complete, or None if it must not end yet."""
        now = time.monotonic()
        if self.ended:
            return ""
        if not self._seen_sender:
            return "no sender came" if now - began > AWAIT_SENDER_SECONDS else None
        silent = not self._answers or now - self._last_word > SILENCE_SECONDS
        return "the sender is gone" if silent else None

    def stop(self) -> None:
        """Wait for the files that are being completed."""
        self._completing.shutdown(wait=True)
