"""Scripts of gb10.programs, run on a node: bounded, and with the script itself on standard input."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString


def script(name: str) -> str:
    """Given a script's name, return its text."""
    return (files("gb10.programs") / "shell" / name).read_text()


def run_script(name: str, *arguments: str, seconds: int, variables: Mapping[str, str] | None = None) -> StringCommand:
    """Given a script's name and arguments, return the command that runs it, for at most so many seconds.

    Variables reach the script by its text, on standard input: unlike arguments they may be secret.
    """
    lines = (f"{variable}={shlex.quote(value)}\n" for variable, value in (variables or {}).items())
    return StringCommand(
        f"timeout {seconds} sh -s --",
        *map(QuoteString, arguments),
        _stdin="".join(lines) + script(name),
    )
