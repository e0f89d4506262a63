"""Events of a pyinfra run: connections, operations, failures and their causes."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gevent.local import local
from paramiko import SSHException
from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.api.exceptions import ConnectError, FactProcessError, PyinfraError
from pyinfra.api.state import BaseStateCallback
from pyinfra.connectors.util import CommandOutput
from pyinfra_cli.exceptions import CliError

from gb10.controller.run import connections
from gb10.controller.run.messages import (
    Aborted,
    Connected,
    ConnectFailed,
    Event,
    FactFailed,
    Failure,
    HostFailed,
    OperationEnded,
    OperationResult,
    OperationStarted,
    Reported,
)
from gb10.facts.reading.reports import Refused, Report
from gb10.operations.kit.operation import RefusedDeploy

SILENT = "it was cut, or the node has not answered for too long"
KEPT_LINES = 20  # of a host's output, shown if its operation fails

Send = Callable[[Event], None]


class HostsFailedError(PyinfraError):
    """The run is given up because hosts failed. Their own events have the reasons."""


class Watch(BaseStateCallback):
    """Sends the events of one run. Causes are kept until the failure that they explain."""

    def __init__(self, send: Send, silence_seconds: float) -> None:
        self.send = send
        self.silence_seconds = silence_seconds
        self.unread: Counter[str] = Counter()  # number of unread facts by host
        self._causes: dict[str, list[Failure]] = {}
        self._output: dict[str, deque[str]] = {}
        self._facts = local()
        self._operation: _Operation | None = None

    # Called by pyinfra

    def host_connect(self, state: State, host: Host) -> None:  # type: ignore[override]
        self.send(Connected(host.name))

    def host_connect_error(self, state: State, host: Host, error: ConnectError) -> None:  # type: ignore[override]
        self.send(ConnectFailed(host.name, connections.connect_failure(host, error)))

    def operation_start(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        self._causes.clear()
        self._output.clear()
        self._operation = _Operation(state, op_hash)
        self.send(OperationStarted(self._operation.name))

    def operation_host_retry(  # type: ignore[override]
        self, state: State, host: Host, op_hash: str, retry_num: int, max_retries: int
    ) -> None:
        self._causes.pop(host.name, None)

    def operation_end(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        self._end_operation()

    # Called by the state and the hosts below

    def cause(self, failure: Failure) -> None:
        """Keep the cause of a coming failure of its host."""
        known = self._causes.setdefault(failure.host or "", [])
        if failure not in known:
            known.append(failure)

    def heard(self, host: str, lines: Iterable[str]) -> None:
        """Keep the last lines of a host's output and log."""
        self._output.setdefault(host, deque(maxlen=KEPT_LINES)).extend(lines)

    def report(self, host: Host, what: Report) -> None:
        """Pass a report on; keep a refusal as a cause."""
        if what.line is not None:
            host.log(what.line)
        if isinstance(what, Refused):
            self.cause(Failure(what.code, host.name, what.text))
        else:
            self.send(Reported(host.name, what))

    @contextmanager
    def reading(self, host: Host, fact: str) -> Iterator[None]:
        """Remember the fact that the block reads. Drop its causes afterwards unless it failed."""
        outer = getattr(self._facts, "read", None)
        self._facts.read = (host.name, fact)
        known = len(self._causes.get(host.name, ()))
        try:
            yield
        finally:
            self._facts.read = outer
            del self._causes.get(host.name, [])[known:]

    def failed(self, hosts: Iterable[Host]) -> None:
        """Send the reasons why hosts failed."""
        names = sorted(host.name for host in hosts)
        host, fact = getattr(self._facts, "read", None) or ("", "")
        if names == [host]:
            self.unread[host] += 1
            if isinstance(error := sys.exception(), FactProcessError):
                self.heard(host, [f"{type(error).__name__}: {error}"])
            output = tuple(self._output.pop(host, ()))
            self.send(FactFailed(host, fact, self._taken(host, f"could not read {fact}"), output))
        elif self._operation:
            for name in names:
                output = tuple(self._output.pop(name, ()))
                silent = "it ended without output, as when the connection is cut"
                failures = self._taken(name, output[-1] if output else silent)
                self.send(HostFailed(name, failures, output))
            self._end_operation()

    def aborted(self, error: BaseException) -> None:
        """Send the reason why the whole run is given up."""
        for host in list(self._causes):
            self.send(HostFailed(host, self._taken(host), tuple(self._output.pop(host, ()))))
        self._end_operation()
        self.send(Aborted(abort_failure(error)))

    def _taken(self, host: str, reason: str = "") -> tuple[Failure, ...]:
        return tuple(self._causes.pop(host, ())) or (Failure("OPERATION_FAILED", host, reason=reason),)

    def _end_operation(self) -> None:
        if self._operation:
            self.send(OperationEnded(self._operation.result()))
            self._operation = None


class _Operation:
    """The current operation."""

    def __init__(self, state: State, op_hash: str) -> None:
        self.name = operation_name(state, op_hash)
        self._state = state
        self._hash = op_hash
        self._began = time.monotonic()

    def result(self) -> OperationResult:
        """Return the result. Hosts on which it did not end are left out unless they failed."""
        found: dict[str, list[str]] = {"changed": [], "unchanged": [], "failed": []}
        for host in self._state.activated_hosts:
            if self._hash in self._state.ops[host]:
                meta = self._state.ops[host][self._hash].operation_meta
                if meta.is_complete() and meta.did_succeed():
                    found["changed" if meta.did_change() else "unchanged"].append(host.name)
                elif meta.is_complete() or host in self._state.failed_hosts:
                    found["failed"].append(host.name)
        hosts = {outcome: tuple(sorted(names)) for outcome, names in found.items()}
        return OperationResult(self.name, **hosts, seconds=time.monotonic() - self._began)


class WatchedState(State):
    """pyinfra's state of a run, which reports failed hosts. If `tolerant`, the others go on."""

    def __init__(self, watch: Watch, *, check_for_changes: bool, tolerant: bool) -> None:
        super().__init__(check_for_changes=check_for_changes)
        self.watch = watch
        self.abandoned = False  # nothing more may start; the connections are still needed
        self._tolerant = tolerant

    def fail_hosts(self, hosts_to_fail: set[Host], activated_count: int | None = None) -> None:
        if hosts_to_fail:
            self.watch.failed(hosts_to_fail)
        try:
            super().fail_hosts(hosts_to_fail, activated_count)  # type: ignore[no-untyped-call] # pyinfra has no types there
        except PyinfraError as error:
            if not self._tolerant:
                raise HostsFailedError(str(error)) from error


class WatchedHost(Host):
    """A host of pyinfra that reports why it fails."""

    state: WatchedState

    def connect(self, reason: str | None = None, show_errors: bool = True, raise_exceptions: bool = False) -> None:
        if self.connected:
            return
        if key := connections.revoked_key(self):
            failure = Failure("SSH_HOST_KEY", self.name, reason=f"{key.fingerprint} is revoked in known_hosts")
            self._not_connected(failure, raise_exceptions)
            return
        try:
            super().connect(reason, show_errors, raise_exceptions)
        except ConnectError:
            raise
        except PyinfraError as error:  # about its key; pyinfra would give up the whole run
            text = f"the SSH key cannot be used: {str(error)[:1].lower()}{str(error)[1:]}"
            self._not_connected(Failure("SSH_AUTH", self.name, text), raise_exceptions)
        if self.connected:
            connections.guard(self, self.state.watch.silence_seconds)

    def _not_connected(self, failure: Failure, raise_exceptions: bool) -> None:
        text = failure.error().summary
        self.log(text, logger.error)
        self.state.watch.send(ConnectFailed(self.name, failure))
        if raise_exceptions:
            raise ConnectError(text)

    def disconnect(self) -> None:
        try:
            super().disconnect()
        finally:
            connections.close(self)

    def log(self, message: str, log_func: Callable[[str], Any] = logger.info) -> None:
        self.state.watch.heard(self.name, [message])
        super().log(message, log_func)

    def get_fact(self, name_or_cls: Any, *args: Any, **kwargs: Any) -> Any:
        with self.state.watch.reading(self, name_or_cls.name):
            return super().get_fact(name_or_cls, *args, **kwargs)

    def run_shell_command(self, *args: Any, **kwargs: Any) -> tuple[bool, CommandOutput]:
        watch = self.state.watch
        try:
            done, output = super().run_shell_command(*args, **kwargs)
        except TimeoutError:
            raise
        except (OSError, SSHException) as error:
            self._lost(str(error) or type(error).__name__)
            raise
        except EOFError as error:
            if connections.broken(self):
                self._lost(SILENT)
                raise OSError("the connection broke") from error
            watch.cause(Failure("SUDO_PASSWORD", self.name))  # no person can type it
            raise OSError("sudo asks for a password") from error
        client = getattr(self.connector, "client", None)
        if isinstance(client, connections.BoundedClient) and client.flooded:
            bound = connections.LARGEST_OUTPUT_BYTES >> 20
            watch.cause(Failure("NODE_ANSWER", self.name, f"{self.name} sends more than {bound} MiB"))
            return False, CommandOutput([])
        if not done:
            watch.heard(self.name, output.output_lines)
            if connections.broken(self):
                self._lost(SILENT)
        return done, output

    def _lost(self, reason: str) -> None:
        text = f"the connection to {self.name} broke: {reason}"
        self.state.watch.cause(Failure("NODE_UNREACHABLE", self.name, text))


def operation_name(state: State, op_hash: str) -> str:
    """Return the name of an operation; all names if they differ between hosts."""
    return ", ".join(sorted(state.get_op_meta(op_hash).names))


def abort_failure(error: BaseException) -> Failure | None:
    """Return the reason why a run was given up; None if hosts failed, whose events have it."""
    if isinstance(error, HostsFailedError | ConnectError):
        return None
    if isinstance(error, RefusedDeploy):
        return Failure(error.code, text=error.reason)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/pyinfra" not in frame.filename and "/controller/run/" not in frame.filename]
    where = f" ({ours[-1].filename} line {ours[-1].lineno})" if ours else ""
    text = " ".join(str(error).split())
    if isinstance(error, PyinfraError | CliError):
        return Failure("OPERATION_FAILED", text=f"pyinfra gave up: {text}{where}")
    return Failure("INTERNAL", reason=f"{type(error).__name__}: {text}{where}")
