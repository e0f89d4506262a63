"""Tell everybody who listens what goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal, now

PASSING = ("seen", "waiting", "instructions")  # told, but not worth remembering


class Report(Protocol):
    """Takes an event and its details."""

    def __call__(self, event: str, /, **details: Any) -> None: ...


class Listener(Protocol):
    """Shows what goes on."""

    def __call__(self, record: Mapping[str, Any], /) -> None: ...


class Reporter:
    """Send each event to the journal, then to the event stream, then to the screen."""

    def __init__(self, journal: Journal, listener: Listener, events: Path | None = None) -> None:
        self._journal = journal
        self._listener = listener
        self._events = events

    def __call__(self, event: str, /, **details: Any) -> None:
        is_passing = event in PASSING
        record = {"at": now(), "event": event, **details} if is_passing else self._journal.write(event, **details)
        if self._events:
            self._append(self._events, record)
        self._listener(record)

    def _append(self, events: Path, record: Mapping[str, Any]) -> None:
        try:
            with events.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"run": self._journal.run, **record}) + "\n")
        except OSError as error:
            raise Gb10Error("STATE_UNWRITABLE", f"{events} cannot be written: {error.strerror or error}") from error


def said_once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that passes a text on to `tell`, unless it is the text of the last call."""
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            tell(text)

    return say
