"""Waiting with a deadline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.waiting import wait_until

BOOTS = Gb10Error("NODE_UNREACHABLE", host="spark-2", reason="it boots")


def looks(*found: int | Gb10Error) -> Callable[[], int]:
    """Return a look that finds these, one after the other, and then the last one for ever."""
    left = list(found)

    def look() -> int:
        seen = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(seen, Gb10Error):
            raise seen
        return seen

    return look


def wait(look: Callable[[], int], seconds: float = 60, passing: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    said: list[str] = []
    between: Callable[[int | Gb10Error], None] = lambda seen: said.append(str(getattr(seen, "code", seen)))  # noqa: E731
    found = wait_until(
        look, lambda seen: seen == 3, seconds=seconds, poll_seconds=0.01, passing=passing, between=between
    )
    return found, said


def test_it_ends_once_the_result_is_the_wanted_one() -> None:
    assert wait(looks(1, 2, 3)) == (3, ["1", "2"])


def test_the_last_result_is_returned_when_time_is_over() -> None:
    assert wait(looks(1), seconds=0) == (1, [])


def test_an_error_that_passes_is_waited_out() -> None:
    assert wait(looks(BOOTS, BOOTS, 3), passing=("NODE_UNREACHABLE",)) == (3, ["NODE_UNREACHABLE"] * 2)


@pytest.mark.parametrize(("seconds", "passing"), [(0, ("NODE_UNREACHABLE",)), (60, ("SSH_AUTH",))])
def test_an_error_that_stays_or_does_not_pass_is_raised(seconds: float, passing: tuple[str, ...]) -> None:
    with pytest.raises(Gb10Error) as raised:
        wait(looks(BOOTS), seconds, passing)
    assert raised.value is BOOTS
