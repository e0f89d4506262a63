"""Shell scripts that operations run on a node: bounded, as text on standard input, refusing by a code.

The contract: a script says `refuse CODE REASON` if it refuses; CODE stands in the catalogue of gb10.controller.errors.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from pyinfra.context import ctx_host

from gb10.facts.reading import launcher
from gb10.facts.reading.launcher import Launch


def script(name: str) -> str:
    """Given the name of a script in programs/shell, return its text."""
    return (files("gb10.programs") / "shell" / name).read_text()


def run_script(name: str, *arguments: str, **options: Any) -> Launch:
    """Given the name and arguments of a script, return the command that runs it on the node of the current operation.

    See gb10.facts.reading.launcher.run_script for the options.
    """
    if ctx_host.isset():
        launcher.equip(ctx_host.get())
    return launcher.run_script(script(name), *arguments, **options)
