"""Runs deploys and reads facts in the pyinfra process.

The inventory says which hosts should take part, and each of them has to appear in the run.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory
from gb10.controller.paths import private_folder
from gb10.controller.run.client import OnEvent, PyinfraProcess
from gb10.controller.run.messages import (
    Event,
    FactQuery,
    FactsDone,
    GetFacts,
    Logged,
    Request,
    Result,
    RunDeploy,
    RunDone,
)
from gb10.controller.run.results import FactsResult, RunRecord, RunResult

FACT_SECONDS = 600.0  # for one fact of one host
# Without a sign of life, after which a node is given up.
FACT_SILENCE_SECONDS = 45.0
RUN_SILENCE_SECONDS = 300.0  # a node that loads a model may be busy


def _ignore(event: Event) -> None:
    """Ignore an event."""


class Runner:
    """Runs deploys and reads facts on the hosts of an inventory that match the limit.

    + known: details for error texts, such as the command to type again
    + data: settings that override the inventory's in every run

    Raise HOST_UNKNOWN if the limit matches nothing.
    """

    def __init__(
        self,
        inventory: Inventory,
        log: RunLog,
        *,
        limit: Iterable[str] = (),
        verbosity: int = 0,
        known: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.inventory = inventory
        self.log = log
        self.hosts = inventory.select(limit)
        self.verbosity = verbosity
        self._known = known or {}
        self._data = data or {}
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

        The first failure stops the run on all hosts, so that no worker goes on without its head. `data` and `kwargs`
        are logged: never put a secret into them. Errors are in the result, none is raised.
        """
        data = {**self._data, **(data or {})}
        request = RunDeploy(
            source=self.inventory.source,
            hosts=self._limit(),
            target=target,
            arguments=kwargs or {},
            data=data,
            dry=dry,
            diff=diff,
            verbosity=self.verbosity,
            silence_seconds=RUN_SILENCE_SECONDS,
        )
        options = ["--dry"] if dry else ["-y", "--fail-percent", "0"]
        options += ["--diff"] if diff else []
        options += [part for key, value in data.items() for part in ("--data", f"{key}={json.dumps(value)}")]
        arguments = [f"{key}={json.dumps(value)}" for key, value in (kwargs or {}).items()]
        record = RunRecord(self._names)
        began = time.monotonic()
        done = self._served(request, [*options, *self._command([target, *arguments])], record, on_event)
        if isinstance(done, RunDone):
            record.check_hosts()
        return RunResult(
            target=target,
            dry=dry,
            hosts=self._names,
            operations=(isinstance(done, RunDone) and done.plan) or tuple(record.operations),
            errors=tuple(map(self.know, record.errors)),
            foreseen=tuple(map(self.know, record.foreseen)),
            diff=tuple(record.diff),
            output=record.output,
            seconds=time.monotonic() - began,
            log=self.log.path,
        )

    def facts(
        self, queries: Iterable[FactQuery[Any]], on_event: OnEvent = _ignore, *, seconds: float = FACT_SECONDS
    ) -> FactsResult:
        """Return facts by query and host. `seconds` is the time limit for one fact of one host.

        Raise INTERRUPTED and an early end of the pyinfra process: a caller could take either for hosts that do not
        answer. All other errors are in the result.
        """
        asked = tuple(queries)
        silence = FACT_SILENCE_SECONDS if seconds <= FACT_SECONDS else RUN_SILENCE_SECONDS
        request = GetFacts(self.inventory.source, self._limit(), asked, self.verbosity, seconds, silence)
        words = [
            word
            for query in asked
            for word in (query.fact, *(f"{k}={json.dumps(v)}" for k, v in query.arguments.items()))
        ]
        record = RunRecord(self._names)
        done = self._served(request, self._command(["fact", *words]), record, on_event)
        if not isinstance(done, FactsDone):
            raise self.know(record.errors[0])
        values: dict[FactQuery[Any], dict[str, Any]] = {query: {} for query in asked}
        for found in done.values:
            values[found.query][found.host] = found.value
            record.ready.add(found.host)
        record.check_hosts()
        return FactsResult(values, self._names, tuple(map(self.know, record.errors)))

    def _served(self, request: Request, command: list[str], record: RunRecord, on_event: OnEvent) -> Result | None:
        """Send a request; return its result, or None with an error in the record."""
        verbosity = ["-" + "v" * self.verbosity] if self.verbosity else []
        self.log.write(f"$ {shlex.join(['pyinfra', *verbosity, *command])}")
        process = PyinfraProcess.ours()

        def hear(event: Event) -> None:
            if isinstance(event, Logged):
                self.log.write(event.line)
            record.hear(event)
            on_event(event)

        try:
            return process.ask(request, hear)
        except Gb10Error as error:
            if error.code == "STATE_UNWRITABLE":
                raise
            record.errors.insert(0, error)
            for line in (*process.last_words(), str(error)):
                self.log.write(f"# {line}")
            return None

    def _limit(self) -> tuple[str, ...] | None:
        return None if len(self.hosts) == len(self.inventory.hosts) else self._names

    def _command(self, words: list[str]) -> list[str]:
        """Return the end of the pyinfra command that does the same."""
        limits = [part for host in self.hosts for part in ("--limit", self.inventory.limit_pattern(host))]
        return [*(limits if self._limit() else []), self.inventory.source, *words]

    def know(self, error: Gb10Error) -> Gb10Error:
        """Add to an error the details of its host, and the command to type again."""
        hosts = self.inventory.hosts
        host = next((host for host in hosts if host.name == error.host), None)
        details = host.details() if host else {}
        log = {"log": str(self.log.path)} if self.log.path else {}
        return error.with_details(**{"inventory": self.inventory.source, **self._known, **details, **log})


class RunLog:
    """A log file named by date and command. Its first line creates it."""

    def __init__(self, command: str, folder: Path | None = None) -> None:
        self._folder = folder
        self._name = f"{datetime.now():%Y-%m-%dT%H-%M-%S}-{command}-{os.getpid()}.log"
        self._path: Path | None = None
        self._descriptor: int | None = None

    @property
    def path(self) -> Path | None:
        """Path of the file, or None while it is empty."""
        return self._path

    def write(self, line: str) -> None:
        """Append a line. Raise STATE_UNWRITABLE if the disk is full."""
        try:
            self._write(f"{line}\n".encode(errors="replace"))
        except OSError as error:
            text = f"the log {self._path or self._name} cannot be written: {error.strerror or error}"
            raise Gb10Error("STATE_UNWRITABLE", text) from error

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            folder = self._folder or private_folder("log")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path = folder / self._name
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._descriptor, data)

    def remove(self) -> None:
        """Delete the log of a command in which nothing worth reading happened."""
        self.close()
        if self._path:
            self._path.unlink(missing_ok=True)
            self._path = None

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
