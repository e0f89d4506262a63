"""Repeat work that fails for a reason that passes by itself."""

from __future__ import annotations

from collections.abc import Callable

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.reporting import Report, said_once
from gb10.controller.waiting import wait_until


class Patience:
    """Repeats work that fails for a reason that passes by itself, and reports each reason."""

    def __init__(self, node: str, report: Report, poll_seconds: float) -> None:
        self._node = node
        self._report = report
        self._poll_seconds = poll_seconds

    def __call__(self, work: Callable[[], object], passing: tuple[str, ...], seconds: float) -> None:
        """Do the work, again and again for so many seconds while it fails with these codes. Raise its last error."""
        say = said_once(lambda text: self._report("waiting", node=self._node, text=text))
        wait_until(
            work,
            lambda done: True,
            seconds=seconds,
            poll_seconds=self._poll_seconds,
            passing=passing,
            between=lambda error: say(error.summary) if isinstance(error, Gb10Error) else None,
        )
