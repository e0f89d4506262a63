"""The person who looks after a rebuild: their hooks, what they are notified of, and what they confirm."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.operations.kit.known_hosts import HostKey

HOOK_SECONDS = 600
NOTIFY_SECONDS = 30


class Hooks:
    """Executables of the user: HOOK before|after STEP NODE, and NOTIFY TEXT. They get no secret and no terminal."""

    def __init__(self, hooks: Sequence[str] = (), notify: str | None = None) -> None:
        self._hooks = tuple(hooks)
        self._notify = notify

    def call(self, moment: str, step: str, node: str) -> None:
        """Call all hooks. Raise HOOK_FAILED with the last line of a hook's output if its exit status is not 0."""
        for hook in self._hooks:
            status, output = _run([str(Path(hook).expanduser()), moment, step, node], HOOK_SECONDS)
            if status:
                last = (output.strip().splitlines() or ["it printed nothing"])[-1]
                raise Gb10Error("HOOK_FAILED", f"{hook} {moment} {step} {node} ended with {status}: {last}")

    def notify(self, text: str) -> str | None:
        """Call NOTIFY. Return the reason if that failed, else None: a failure does not stop a rebuild."""
        if self._notify is None:
            return None
        status, output = _run([str(Path(self._notify).expanduser()), text], NOTIFY_SECONDS)
        return f"{self._notify} ended with {status}: {output.strip()[-200:]}" if status else None


def _run(command: list[str], seconds: int) -> tuple[int | str, str]:
    """Return the exit status and the output of a command; if it could not be run, the reason instead of the status."""
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


class Person:
    """The person who looks after a rebuild.

    + ask: asks a question and returns True for yes; None if nobody is there to answer
    + note: shows a line that is not recorded
    + keys: host keys that were confirmed beforehand
    + options: the options that name the inventory, for commands that the person is to type
    """

    def __init__(
        self,
        hooks: Hooks,
        ask: Callable[[str], bool] | None,
        note: Callable[[str], None],
        keys: Sequence[str] = (),
        options: str = "",
    ) -> None:
        self._hooks = hooks
        self._ask = ask
        self._note = note
        self._keys = tuple(keys)
        self._options = options

    def notify(self, text: str) -> None:
        """Send a text to a person who does not watch the terminal."""
        if reason := self._hooks.notify(text):
            self._note(f"Nobody was notified: {reason}")

    def confirm(self, host: InventoryHost, key: HostKey) -> None:
        """Have a new host key confirmed. Raise HOST_KEY_UNCONFIRMED unless the person says yes."""
        if any(key.is_named(text) for text in self._keys):
            return
        text = f"{host.name} shows the new host key {key.fingerprint} ({key.kind})"
        if self._ask:
            self.notify(f"{text}: somebody has to confirm it")
            if self._ask(f"{text}. Is that what its own screen shows?"):
                return
        raise Gb10Error("HOST_KEY_UNCONFIRMED", text, host=host.name)

    def command(self, command: str, *arguments: str) -> str:
        """Return a gb10 command for the person to type: "gb10 backup -i lab/inventory.py spark-2"."""
        return " ".join((f"gb10 {command}{self._options}", *arguments))
