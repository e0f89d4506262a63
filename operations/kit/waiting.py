"""Wait for something, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")

POLL_SECONDS = 1.0


def wait_until(
    look: Callable[[], T],
    done: Callable[[T], object],
    *,
    seconds: float,
    poll_seconds: float = POLL_SECONDS,
    passes: Callable[[BaseException], bool] = lambda error: False,
    between: Callable[[Any], None] = lambda seen: None,
) -> T:
    """Call `look` until its result is `done`, and return that result.

    + seconds: once they are over, the last result is returned, done or not, or the last error raised
    + passes: given an error, tells if it passes by itself; all others are raised at once
    + between: called before each pause with the last result or error

    Under pyinfra other hosts go on during the pauses.
    """

    def tell(state: RetryCallState) -> None:
        if state.outcome is not None:
            between(state.outcome.exception() or state.outcome.result())

    def last(state: RetryCallState) -> T:
        assert state.outcome is not None  # noqa: S101 - for mypy: there was an attempt
        outcome: T = state.outcome.result()
        return outcome

    retrying = Retrying(
        stop=stop_after_delay(seconds),
        wait=wait_fixed(poll_seconds),
        retry=retry_if_result(lambda found: not done(found)) | retry_if_exception(passes),
        before_sleep=tell,
        retry_error_callback=last,
    )
    return retrying(look)
