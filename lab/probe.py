"""A probe that asks the served model repeatedly, as its users do."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

PORT = 8000
PROBE_SECONDS = 0.2
ANSWER_SECONDS = 5.0  # a busy machine connects quickly but may answer slowly

Seen = TypeVar("Seen")


@contextmanager
def polled(look: Callable[[], Iterable[Seen]], every_seconds: float = 0.01) -> Iterator[list[Seen]]:
    """Call `look` repeatedly while the block runs and collect its results."""
    seen: list[Seen] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_seconds):
            seen.extend(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def served_model(address: str, key: str = "", answer_seconds: float = ANSWER_SECONDS) -> str | None:
    """Return the model that answers at an address within this time, or None."""
    connection = http.client.HTTPConnection(address, PORT, timeout=0.5)
    try:
        connection.connect()
        connection.sock.settimeout(answer_seconds)
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
        return str(json.load(connection.getresponse())["data"][0]["id"])
    except (OSError, ValueError, LookupError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def probed(
    addresses: list[str], key: str = "", answer_seconds: float = ANSWER_SECONDS
) -> AbstractContextManager[list[tuple[float, bool]]]:
    """Ask all addresses five times a second while the block runs. Record the time and whether any answered."""

    def ask() -> list[tuple[float, bool]]:
        return [(time.monotonic(), any(served_model(address, key, answer_seconds) for address in addresses))]

    return polled(ask, PROBE_SECONDS)


def gaps(seen: list[tuple[float, bool]]) -> list[float]:
    """Return the length in seconds of each gap without answers, including a last one that has not ended."""
    found, since = [], None
    for moment, answered in seen:
        if not answered:
            since = since or moment
        elif since:
            found.append(moment - since)
            since = None
    if since:
        found.append(seen[-1][0] - since)
    return found
