"""Scripts of gb10.templates, run on a node: bounded, and with the script itself on standard input."""

from __future__ import annotations

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString

from gb10.templates import script


def run_script(name: str, *arguments: str, seconds: int, environment: dict[str, str] | None = None) -> StringCommand:
    """Given a script's name and arguments, return the command that runs it, for at most so many seconds."""
    variables = tuple(QuoteString(f"{key}={value}") for key, value in (environment or {}).items())
    return StringCommand(
        *("env", *variables) if variables else (),
        f"timeout {seconds} sh -s --",
        *map(QuoteString, arguments),
        _stdin=script(name),
    )
