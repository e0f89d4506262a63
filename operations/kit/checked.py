"""Files that a broken line would make fatal: checked by the tool that reads them before they are in their place."""

from __future__ import annotations

import shlex

from gb10.facts.reading.launcher import Launch
from gb10.operations.kit.scripts import run_script

SECONDS = 60


def write_checked(path: str, content: str, mode: str, check: str, code: str, *, replace: bool = False) -> Launch:
    """Given a file's next text, return the command that writes it beside the file and has it checked.

    It waits at `<path>.new`, a name that sudo and netplan ignore.

    + check: command that is given the written file as its last argument
    + code: of the error if the check fails; nothing is left then
    + replace: put it in its place
    """
    arguments = (path, mode, code, "replace" if replace else "keep", *shlex.split(check))
    return run_script("write-checked.sh", *arguments, seconds=SECONDS, variables={"content": content})
