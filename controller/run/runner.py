"""Runs pyinfra in a subprocess, and believes only what it can see.

pyinfra exits 0 after Ctrl-C, for an unknown --limit, for a missing inventory and for facts that failed. So the hosts
that should run come from the inventory, and each has to show up in the run.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.paths import private_folder
from gb10.controller.run.child import Child
from gb10.controller.run.events import Event, LogParser, StageStarted, plain
from gb10.controller.run.log import RunLog
from gb10.controller.run.results import FactsResult, RunResult
from gb10.controller.run.story import Story

OnEvent = Callable[[Event], None]
# A connection whose other end is gone would be waited for for ever. With something to send, the kernel gives it up: at
# once when the node is back and does not know it any more, after a quarter of an hour when the node stays dark.
SSH_CONFIG = """\
Include ~/.ssh/config
Host *
  ServerAliveInterval 15
"""
DISCONNECT_SECONDS = 30.0
DEBUG_FILE = Path("pyinfra-debug.log")  # pyinfra leaves it in the current folder when it crashes


def _ignore(event: Event) -> None:
    """For those who only want the result."""


class Runner:
    """Runs deploys and facts on the hosts of an inventory that --limit leaves.

    `known` are details for error texts, such as how to go on. Raise HOST_UNKNOWN where the limit matches nothing.
    """

    def __init__(
        self,
        inventory: Inventory,
        log: RunLog,
        *,
        limit: Iterable[str] = (),
        verbosity: int = 0,
        known: Mapping[str, str] | None = None,
    ) -> None:
        self.inventory = inventory
        self.log = log
        self.hosts = inventory.select(limit)
        self.verbosity = verbosity
        self._known = known or {}
        self._names = tuple(host.name for host in self.hosts)

    def run(
        self,
        target: str,
        *,
        dry: bool = False,
        diff: bool = False,
        data: Mapping[str, Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        on_event: OnEvent = _ignore,
    ) -> RunResult:
        """Run a deploy or operation, "gb10.deploys.cluster". With `dry`, only find out what would change.

        The first failure stops the run on all hosts: nobody wants a worker to go on without its head. `data` and
        `kwargs` appear in the process list: never put a secret into them. Errors are in the result, none is raised.
        """
        flags = ["--dry"] if dry else ["-y", "--fail-percent", "0"]
        flags += ["--diff"] if diff else []
        flags += [part for key, value in (data or {}).items() for part in ("--data", f"{key}={json.dumps(value)}")]
        arguments = [f"{key}={json.dumps(value)}" for key, value in (kwargs or {}).items()]
        story = Story(target, dry, self._names)
        code, output = self._pyinfra(flags, [target, *arguments], story, on_event)
        return self._explained(story.result(code, output, self.know, self.log.path))

    def facts(self, facts: Iterable[str], on_event: OnEvent = _ignore) -> FactsResult:
        """Given names like "gb10.facts.k3s.K3sInstall", return their values by name and host.

        A fact with arguments is named as on pyinfra's command line: "gb10.facts.secret.SecretFile path=/etc/key".
        Raise INTERRUPTED: whoever waits for what the hosts say would take it for hosts that do not answer. All other
        errors are in the result.
        """
        names = tuple(facts)
        words = [word for name in names for word in name.split(" ")]
        story = Story(f"fact {' '.join(names)}", True, self._names)
        code, output = self._pyinfra([], ["fact", *words], story, on_event)
        result = story.facts(names, code, output, self.know)
        if interrupted := next((error for error in result.errors if error.code == "INTERRUPTED"), None):
            raise interrupted
        return result

    def _explained(self, result: RunResult) -> RunResult:
        """Where an operation just failed, ask the host once more: a connection that breaks looks like a command that
        fails without a word."""
        vague = {error.host for error in result.errors if error.code == "OPERATION_FAILED" and error.host}
        if not vague & set(self._names) or result.interrupted:
            return result
        limit = [self.inventory.limit_pattern(host) for host in self.hosts if host.name in vague]
        asked = Runner(self.inventory, self.log, limit=limit, known=self._known)
        story = Story("exec", False, asked._names)
        asked._pyinfra(["-y"], ["exec", "--", "true"], story, _ignore)
        lost = {error.host: self.know(error) for error in story.errors if error.code == "NODE_UNREACHABLE"}
        return replace(result, errors=tuple(lost.get(error.host, error) for error in result.errors))

    def _pyinfra(self, flags: list[str], target: list[str], story: Story, on_event: OnEvent) -> tuple[int, str]:
        limits = [part for host in self.hosts for part in ("--limit", self.inventory.limit_pattern(host))]
        everyone = len(self.hosts) == len(self.inventory.hosts)
        arguments = ["--json", *(["-" + "v" * self.verbosity] if self.verbosity else []), *flags, *self._ssh_config()]
        command = [*arguments, *([] if everyone else limits), self.inventory.source, *target]
        self.log.write(f"$ {shlex.join(['pyinfra', *command])}")
        parser = LogParser(self.inventory.names)
        crashed_before = _modified(DEBUG_FILE)
        with Child("pyinfra", command, _environment()) as child:
            try:
                for line in child.lines():
                    self.log.write(plain(line))
                    for event in parser.feed(line):
                        if event == StageStarted("disconnect"):  # after a signal, pyinfra may never come to its end
                            child.stop_after(DISCONNECT_SECONDS)
                        story.hear(event)
                        on_event(event)
                code, output = child.wait(), child.output()
            except KeyboardInterrupt:
                child.stop()
                story.interrupted = True
                code, output = child.wait(), ""
        story.unclaimed = parser.leftover()
        self.log.write(f"# exit code {code}")
        if _modified(DEBUG_FILE) != crashed_before:
            self.log.write(DEBUG_FILE.read_text(encoding="utf-8", errors="replace"))
            DEBUG_FILE.unlink()
        return code, output

    def _ssh_config(self) -> list[str]:
        """Flags by which pyinfra's connections notice that the other end is gone, unless the inventory has its own."""
        if any(host.ssh_config for host in self.inventory.hosts):
            return []
        path = private_folder("ssh") / "config"
        if not path.exists() or path.read_text() != SSH_CONFIG:
            path.write_text(SSH_CONFIG)
        return ["--data", f"ssh_config_file={path}"]

    def know(self, error: Gb10Error) -> Gb10Error:
        """Add to an error what we know about its host, and how to go on."""
        hosts = self.inventory.hosts
        host = next((host for host in hosts if host.name == error.host), None)
        if error.code == "SSH_AUTH" and not error.host:  # about a key, and whose it is only we know
            host = next((host for host in hosts if host.key and host.key in error.summary), None)
        details = host.details() if host else {}
        log = {"log": str(self.log.path)} if self.log.path else {}
        return error.with_details(**{"inventory": self.inventory.source, **self._known, **details, **log})


def _environment() -> dict[str, str]:
    """Our environment, without what would change how pyinfra behaves: PYINFRA_YES empties a dry run's plan."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYINFRA_")}
    return {**kept, "PYINFRA_PROGRESS": "off", "PYTHONUNBUFFERED": "1"}


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
