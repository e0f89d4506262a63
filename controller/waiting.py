"""Wait for something, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gb10.controller.errors import Gb10Error
from gb10.operations.kit import waiting

T = TypeVar("T")


def wait_until(
    look: Callable[[], T],
    done: Callable[[T], bool],
    *,
    seconds: float,
    poll_seconds: float,
    passing: tuple[str, ...] = (),
    between: Callable[[T | Gb10Error], None] = lambda seen: None,
) -> T:
    """Call `look` until its result is `done`, as gb10.operations.kit.waiting does; errors with some codes pass."""

    def passes(error: BaseException) -> bool:
        return isinstance(error, Gb10Error) and error.code in passing

    return waiting.wait_until(look, done, seconds=seconds, poll_seconds=poll_seconds, passes=passes, between=between)
