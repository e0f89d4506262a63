"""Reports: objects that a fact or an operation hands out beside its commands.

They go to one reporter. In the process of the gb10 command it sends them to the controller; otherwise, as under the
pyinfra CLI, each becomes a line of text for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gb10.facts.reading.printable import printable


class Report(Protocol):
    """A report. `line` is its text for a person, or None if a person need not see it.

    `colour` is that of the text; or start of a line -> colour.
    """

    @property
    def line(self) -> str | None: ...

    @property
    def colour(self) -> str | Mapping[str, str] | None: ...


@dataclass(frozen=True)
class Refused:
    """A refusal: a code of the error catalogue and what happened."""

    code: str
    text: str
    colour = "red"

    @property
    def line(self) -> str:
        return f"gb10: {self.code}: {self.text}"


@dataclass(frozen=True)
class Measured:
    """Progress as gb10.programs.meter.Meter reports it."""

    verb: str  # "checked", "saved", "loaded"
    done: int  # bytes
    total: int
    seconds: float
    colour = None

    @property
    def line(self) -> str | None:
        raise NotImplementedError


@dataclass(frozen=True)
class Checked(Measured):
    """Progress of reading files for their sha256."""

    @property
    def line(self) -> str | None:
        if not self.done:
            return None
        left = (self.total - self.done) * self.seconds / self.done
        return f"{self.verb} {self.done / 1e9:.1f} of {self.total / 1e9:.1f} GB, {left:.0f} s left"


def _print(host: Any, what: Report) -> None:
    for line in () if what.line is None else printable(what.line).split("\n"):
        colour = what.colour
        if isinstance(colour, Mapping):
            colour = next((name for start, name in colour.items() if line.startswith(start)), None)
        host.log_styled(line, fg=colour) if colour else host.log(line)


_reporter: Callable[[Any, Report], None] = _print


def report(host: Any, what: Report) -> None:
    """Report something about a host of pyinfra."""
    _reporter(host, what)


def set_reporter(reporter: Callable[[Any, Report], None]) -> None:
    """Send reports to this function instead of pyinfra's log."""
    global _reporter  # noqa: PLW0603 - one for the process, as pyinfra's log is
    _reporter = reporter
