"""Run as `python -m gb10.controller.run.inventory_probe INVENTORY`: what pyinfra makes of an inventory, as JSON.

Not to be imported: pyinfra_cli patches the process that imports it.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from traceback import extract_tb
from typing import Any

import pyinfra
from pyinfra.api import Config, Host, State
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.exceptions import UnexpectedExternalError  # type: ignore[import-untyped] # has no py.typed
from pyinfra_cli.inventory import make_inventory  # type: ignore[import-untyped] # likewise

from gb10.group_data.settings import SETTINGS
from gb10.operations.kit.spelling import misspelt

NOT_SAID = object()


def main(source: str) -> dict[str, Any]:
    """Given an inventory, return {"hosts": [...]} or {"error": one line with file and line number}."""
    pyinfra.is_cli = True
    sys.dont_write_bytecode = True
    state = State(check_for_changes=False)
    state.cwd = os.getcwd()
    ctx_state.set(state)
    ctx_config.set(Config())
    try:
        inventory = make_inventory(source, cwd=state.cwd)
        return {"hosts": [_entry(host) for host in inventory], "misspelt": misspelt(inventory, [source])}
    except UnexpectedExternalError as error:
        return {"error": _one_line(error.exception, error.filename)}
    except Exception as error:  # whatever the inventory does, it is the inventory's error
        return {"error": _one_line(error, source)}


def _entry(host: Host) -> dict[str, Any]:
    data = {name: found for name in SETTINGS if (found := host.data.get(name, NOT_SAID)) is not NOT_SAID}
    return {"name": host.name, "groups": list(host.groups), "data": data}


def _one_line(error: BaseException, filename: str) -> str:
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == filename]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())} ({filename}{f', line {line}' if line else ''})"


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # an inventory that prints must not spoil the JSON
        document = main(sys.argv[1])
    print(json.dumps(document, default=str))
