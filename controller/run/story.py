"""What is heard of a pyinfra run while it goes on, and what became of it when it is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.run.events import (
    Aborted,
    ConnectFailed,
    Event,
    FactFailed,
    Foreseen,
    HostFailed,
    HostOutput,
    HostResult,
    OperationStarted,
    Ready,
    StageStarted,
    Text,
)
from gb10.controller.run.results import FactsResult, OperationResult, RunResult


class Story:
    """What has been heard of a run so far."""

    def __init__(self, target: str, dry: bool, hosts: tuple[str, ...]) -> None:
        self.target = target
        self.dry = dry
        self.hosts = hosts
        self.interrupted = False
        self.unclaimed: tuple[Gb10Error, ...] = ()
        self.errors: list[Gb10Error] = []
        self.foreseen: list[Gb10Error] = []
        self.ready: set[str] = set()
        self.not_had: set[tuple[str, str]] = set()  # host, fact
        self._operations: list[_Operation] = []
        self._stage = ""
        self._diff: list[str] = []
        self._in_diff = False
        self._output: dict[str, tuple[str, ...]] = {}
        self._began = time.monotonic()

    def hear(self, event: Event) -> None:
        """Take in the next event."""
        match event:
            case StageStarted(stage):
                self._stage = stage
                self._end_operation()
            case Ready(host):
                self.ready.add(host)
            case OperationStarted(name):
                self._end_operation()
                self._operations.append(_Operation(name))
            case HostResult(host, "changed" | "unchanged" as outcome):
                self._operations[-1].outcomes[host] = outcome
            case _:
                self._hear_trouble(event)
        self._hear_diff(event)

    def _hear_trouble(self, event: Event) -> None:
        match event:
            case HostFailed(host, errors, output):
                self._failed(host, errors, output)
            case FactFailed(host, fact, errors, output):
                self.not_had.add((host, fact))
                self._failed(host, errors, output)
            case ConnectFailed(_, error) | Aborted(Gb10Error() as error):
                self._add(error)
            case Foreseen(_, error):
                self.foreseen.append(error)

    def _hear_diff(self, event: Event) -> None:
        """A diff is a head, "Will modify FILE", and the lines that follow it at once."""
        match event:
            case HostOutput(host, text) if text.startswith("Will "):
                self._diff.append(f"[{host}] {text}")
                self._in_diff = True
            case Text(text) if self._in_diff:
                self._diff.append(text)
            case _:
                self._in_diff = False

    def result(self, code: int, output: str, know: Callable[[Gb10Error], Gb10Error], log: Path | None) -> RunResult:
        """Given pyinfra's exit code and JSON, return what became of the run."""
        self._end_operation()
        document = _document(output)
        if document is None:
            operations = tuple(operation.result() for operation in self._operations)
        elif self.dry:
            operations = tuple(_planned(entry) for entry in document["plan"])
        else:
            operations = self._executed(document["results"]["operations"])
        self._close(code, output, document is not None)
        return RunResult(
            target=self.target,
            dry=self.dry,
            hosts=self.hosts,
            operations=operations,
            errors=tuple(map(know, self.errors)),
            foreseen=tuple(map(know, self.foreseen)),
            diff=tuple(self._diff),
            output=self._output,
            seconds=time.monotonic() - self._began,
            log=log,
        )

    def facts(
        self, names: tuple[str, ...], code: int, output: str, know: Callable[[Gb10Error], Gb10Error]
    ) -> FactsResult:
        """Given pyinfra's exit code and JSON, return the facts that it really read."""
        document = _document(output) or {}
        values: dict[str, dict[str, Any]] = {}
        for name in names:
            fact, _, arguments = name.replace(":", ".").removeprefix("pyinfra.facts.").partition(" ")
            key = f"{fact} ({arguments.replace(' ', ', ')})" if arguments else fact  # as pyinfra calls it
            by_host = document.get(key, {}) or (_only(document, fact) if arguments else {})
            values[name] = {host: value for host, value in by_host.items() if (host, fact) not in self.not_had}
        self.ready = {host for by_host in values.values() for host in by_host}
        self._close(code, output, bool(document))
        return FactsResult(values, self.hosts, tuple(map(know, self.errors)))

    def _close(self, code: int, output: str, complete: bool) -> None:
        """Find what pyinfra did not say: that it was interrupted, that it failed, that it left hosts out."""
        if self.interrupted or "Exiting upon user request!" in output:
            self.errors.insert(0, Gb10Error("INTERRUPTED"))
        if self.errors:
            return
        for error in self.unclaimed if code else ():
            self._add(error)
        if (code or not complete) and not self.errors:
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            self._add(Gb10Error("OPERATION_FAILED", f"pyinfra ended early ({how})"))
        if not self.errors:
            for host in self.hosts:
                if host not in self.ready:
                    self._add(Gb10Error("NOT_RUN", host=host))

    def _failed(self, host: str, errors: tuple[Gb10Error, ...], output: tuple[str, ...]) -> None:
        if self._stage == "execute" and self._operations:
            self._operations[-1].outcomes[host] = "failed"
        self._output[host] = output
        for error in errors:
            self._add(error)

    def _add(self, error: Gb10Error) -> None:
        if (str(error), error.host) not in ((str(known), known.host) for known in self.errors):
            self.errors.append(error)

    def _end_operation(self) -> None:
        if self._operations:
            self._operations[-1].end()

    def _executed(self, entries: list[dict[str, Any]]) -> tuple[OperationResult, ...]:
        """Given pyinfra's results, return ours: who changed from there, how long it took from the log."""
        heard = self._operations if len(self._operations) == len(entries) else [None] * len(entries)
        return tuple(
            OperationResult(
                name=", ".join(entry["names"]),
                changed=tuple(entry["success"]),
                unchanged=tuple(entry["no_change"]),
                failed=tuple(entry["error"]),
                seconds=operation.seconds if operation else 0.0,
            )
            for entry, operation in zip(entries, heard, strict=True)
        )


class _Operation:
    def __init__(self, name: str) -> None:
        self.name = name
        self.outcomes: dict[str, str] = {}
        self._began = time.monotonic()
        self._ended: float | None = None

    def end(self) -> None:
        self._ended = self._ended or time.monotonic()

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    def result(self) -> OperationResult:
        def those(outcome: str) -> tuple[str, ...]:
            return tuple(sorted(host for host, o in self.outcomes.items() if o == outcome))

        return OperationResult(self.name, those("changed"), those("unchanged"), those("failed"), seconds=self.seconds)


def _planned(entry: dict[str, Any]) -> OperationResult:
    return OperationResult(
        name=", ".join(entry["names"]),
        changed=tuple(entry["hosts_with_change"]),
        conditional=tuple(entry["hosts_with_conditional_change"]),
    )


def _document(output: str) -> dict[str, Any] | None:
    try:
        document = json.loads(output)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _only(document: dict[str, Any], fact: str) -> dict[str, Any]:
    """What was read of a fact whose arguments pyinfra writes otherwise than they were given, such as lists."""
    found = [by_host for key, by_host in document.items() if key.startswith(f"{fact} (")]
    return found[0] if len(found) == 1 else {}
