"""Scripts of gb10.templates, run on a node: bounded, and with the script itself on standard input."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString

from gb10.templates import script


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
