"""Shell scripts that operations run on a node: bounded, as text on standard input, refusing by a code.

The contract: a script says `refuse CODE REASON` if it refuses; CODE stands in the catalogue of gb10.controller.errors.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from gb10.facts.reading import launcher
from gb10.facts.reading.launcher import Launch

DOWNLOAD_SECONDS = 3600
CHECK_SECONDS = 60


def script(name: str) -> str:
    """Return the text of a script in programs/shell."""
    return (files("gb10.programs") / "shell" / name).read_text()


def run_script(name: str, *arguments: str, **options: Any) -> Launch:
    """Return the command that runs a script of programs/shell on the node of the current operation.

    See gb10.facts.reading.launcher.run_script for the options.
    """
    return run_text(script(name), *arguments, **options)


def run_text(text: str, *arguments: str, **options: Any) -> Launch:
    """Return the command that runs the text of a shell script on the node of the current operation."""
    if ctx_host.isset():
        launcher.equip(ctx_host.get())
    return launcher.run_script(text, *arguments, **options)


def verified_download(
    url: str,
    path: str,
    *,
    mode: str = "755",
    sha256: str | None = None,
    sums_url: str = "",
    name: str = "",
    proxy: Mapping[str, str] | None = None,
    locked: str = "",
) -> StringCommand:
    """Return the command by which the node downloads a file to `path`: resumed, retried, verified before it is there.

    A pinned `sha256` beats the list at `sums_url`, in which `name` is looked up; `locked` is its name in gb10.lock, if
    it is from there. The command fails with VERSION_UNKNOWN, DOWNLOAD_FAILED, CHECKSUM_MISMATCH, PIN_DIFFERS or
    DISK_FULL, and leaves what was at `path` before.
    """
    environment = proxy or {}
    variables = {
        "proxy": environment.get("HTTPS_PROXY" if url.startswith("https:") else "HTTP_PROXY", ""),
        "direct": environment.get("NO_PROXY", ""),
        "locked": locked,
    }
    arguments = (url, path, mode, sha256 or "", sums_url, name)
    return run_script("download.sh", *arguments, seconds=DOWNLOAD_SECONDS, variables=variables)


def write_checked(
    path: str, content: str, mode: str, check: str, code: str, *, replace: bool = False, keep_owner: bool = False
) -> Launch:
    """Return the command that writes a text to `<path>.new`, a name that sudo and netplan ignore, and checks it.

    + check: command that gets the written file as its last argument
    + mode: of the file, which root owns
    + code: of the error if the check fails; nothing is left then
    + replace: rename it to `path`
    + keep_owner: give it the owner and the mode of a file that is there
    """
    words = ("replace" if replace else "wait", "keep" if keep_owner else "set")
    arguments = (path, mode, code, *words, *shlex.split(check))
    return run_script("write-checked.sh", *arguments, seconds=CHECK_SECONDS, variables={"content": content})
