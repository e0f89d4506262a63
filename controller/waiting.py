"""Wait for something, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_result, stop_after_delay, wait_fixed

from gb10.controller.errors import Gb10Error

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
    """Call `look` until its result is `done`, and return that result.

    + seconds: once they are over, the last result is returned, done or not, or the last error raised
    + passing: the codes of errors that pass by themselves; all others are raised at once
    + between: called before each pause with the last result or error
    """

    def passes(error: BaseException) -> bool:
        return isinstance(error, Gb10Error) and error.code in passing

    def tell(state: RetryCallState) -> None:
        if state.outcome is not None:
            error = state.outcome.exception()
            between(error if isinstance(error, Gb10Error) else state.outcome.result())

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
