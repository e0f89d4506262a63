"""Executables of the user that are called during a rebuild."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from gb10.controller.errors import Gb10Error

HOOK_SECONDS = 600
NOTIFY_SECONDS = 30


class Hooks:
    """Calls HOOK before|after STEP NODE, and NOTIFY TEXT. They get no secret and no terminal."""

    def __init__(self, hooks: Sequence[str] = (), notify: str | None = None) -> None:
        self._hooks = tuple(hooks)
        self._notify = notify

    def call(self, moment: str, step: str, node: str) -> None:
        """Call all hooks. Raise HOOK_FAILED with the last line that a hook printed, if it does not end with 0."""
        for hook in self._hooks:
            status, output = _run([str(Path(hook).expanduser()), moment, step, node], HOOK_SECONDS)
            if status:
                said = (output.strip().splitlines() or ["it printed nothing"])[-1]
                raise Gb10Error("HOOK_FAILED", f"{hook} {moment} {step} {node} ended with {status}: {said}")

    def notify(self, text: str) -> str | None:
        """Tell a person who is not looking. Return why that failed, or None; it does not stop a rebuild."""
        if self._notify is None:
            return None
        status, output = _run([str(Path(self._notify).expanduser()), text], NOTIFY_SECONDS)
        return f"{self._notify} ended with {status}: {output.strip()[-200:]}" if status else None


def _run(command: list[str], seconds: int) -> tuple[int | str, str]:
    """Return the exit status and the output of a command; if it could not be run, the reason as status."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        return error.strerror or str(error), ""
    except subprocess.TimeoutExpired:
        return f"nothing after {seconds} s", ""
    return done.returncode, done.stdout
