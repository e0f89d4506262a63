"""What pyinfra's log says, line by line, as typed events.

The lines are those of pyinfra 3.10 (pyinfra/api/operations.py, api/host.py, api/facts.py, api/connect.py,
pyinfra_cli/exceptions.py): its own lines are indented by four spaces, what a command prints under -vv is not.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from gb10.controller.errors import Gb10Error

Outcome = Literal["changed", "unchanged", "skipped"]
Stage = Literal["load", "connect", "prepare", "facts", "execute", "results", "disconnect"]

KEPT_LINES = 20  # of a host's output, to be shown when its operation fails


@dataclass(frozen=True)
class StageStarted:
    """pyinfra turned to the next part of its run."""

    stage: Stage


@dataclass(frozen=True)
class Connected:
    host: str


@dataclass(frozen=True)
class ConnectFailed:
    """A host cannot be reached, or does not let us in."""

    host: str
    error: Gb10Error


@dataclass(frozen=True)
class Ready:
    """The deploy has been prepared for the host: it takes part in the run."""

    host: str


@dataclass(frozen=True)
class OperationStarted:
    name: str


@dataclass(frozen=True)
class HostResult:
    """How the current operation ended on a host."""

    host: str
    outcome: Outcome


@dataclass(frozen=True)
class HostFailed:
    """The current operation, or a fact while preparing, failed on a host."""

    host: str
    errors: tuple[Gb10Error, ...]
    output: tuple[str, ...]  # the last lines that the host printed


@dataclass(frozen=True)
class FactFailed:
    """A fact could not be had from a host; pyinfra goes on with the fact's default."""

    host: str
    fact: str
    errors: tuple[Gb10Error, ...]
    output: tuple[str, ...]


@dataclass(frozen=True)
class HostOutput:
    """A line that belongs to a host: command output, a diff's head, a note."""

    host: str
    text: str


@dataclass(frozen=True)
class Foreseen:
    """A dry run tells what the real run would refuse."""

    host: str
    error: Gb10Error


@dataclass(frozen=True)
class Aborted:
    """pyinfra gave up on the whole run. `error` is None for a mere consequence of what hosts reported."""

    error: Gb10Error | None


@dataclass(frozen=True)
class Text:
    """Any other line."""

    text: str


Event = (
    StageStarted
    | Connected
    | ConnectFailed
    | Ready
    | OperationStarted
    | HostResult
    | HostFailed
    | FactFailed
    | HostOutput
    | Foreseen
    | Aborted
    | Text
)

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HOST = re.compile(r"^(?P<own>    )?\[(?P<host>[^\]]+)\]\s+(?:nested\s+)?(?P<text>.*)$")
_PROMPT = re.compile(r"\[(?P<host>[^\]]+)\]\s+sudo password: (?P<rest>.*)$")
_KEY_PROMPT = re.compile(r"^Enter password for private key: (?P<key>.+?): (?P<rest>.*)$")
_STAGES: dict[str, Stage] = {
    "--> Loading": "load",
    "--> Connecting": "connect",
    "--> Preparing": "prepare",
    "--> Gathering": "facts",
    "--> Beginning": "execute",
    "--> Results": "results",
    "--> Disconnecting": "disconnect",
}
_OPERATION = re.compile(r"^--> Starting(?: [\w, ]+)? operation: (?P<name>.*?)\s*$")
# At the start, behind "SomeError: ", or as the repr of an exception: RuntimeError('gb10: ...',)
_REPORTED = re.compile(r"""(?:^|: |\(["'])gb10: (?P<code>[A-Z][A-Z0-9_]*): (?P<text>.*?)(?:["'],?\))?$""")
_FORESEEN = re.compile(r"^would be refused: (?P<code>[A-Z][A-Z0-9_]*): (?P<text>.*)$")
_RESULT = re.compile(r"^(Success|No changes|Skipped)(?: on retry \d+)?$")
_OUTCOMES: dict[str, Outcome] = {"Success": "changed", "No changes": "unchanged", "Skipped": "skipped"}
_FACT = re.compile(r"^Error: could not (?:load|process) fact: (?P<fact>\S+)")
_CONNECT = re.compile(
    r"^(?P<kind>Could not connect|Could not resolve hostname|EOF error|(?:SSH|SSH host key|Authentication) error)"
    r" \((?P<text>.*)\)$"
)
_ABORT = re.compile(
    r"^--> (?:pyinfra error|Operation error|Argument type error|Connector data type error|Local IO error|unknown error)"
    r"(?: in (?P<where>.+? line \d+))?: (?P<text>.*)$"
)
_CRASH = re.compile(r"^--> An (?:internal exception occurred|exception occurred in: .*):")
_FRAME = re.compile(r'^\s*File "(.+)", line (\d+)')
_CUT_OFF = "transport shut down or saw EOF"  # paramiko's words
_CONSEQUENCE = re.compile(r"^(?:No hosts remaining!|Over \d+% of hosts failed)")
_CONNECTION_LOST = re.compile(r"^(?:Command socket/SSH error|Command IO error): (?P<text>.*)$")


def plain(line: str) -> str:
    """Given a line of a terminal, return it without colours."""
    return _ANSI.sub("", line).rstrip("\r\n")


class LogParser:
    """Turns pyinfra's log into events, one line at a time.

    What a host prints counts as the cause of a failure only when the operation really fails there: an operation may
    be told to ignore errors, or to try again.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(hosts)
        self._causes: dict[str, list[Gb10Error]] = {}
        self._output: dict[str, deque[str]] = {}
        self._connecting = False
        self._crash: list[str] | None = None
        self._locked_key: str | None = None

    def feed(self, line: str) -> Iterator[Event]:
        """Given the next line, yield what it says."""
        line = plain(line)
        if self._crash is not None:
            yield from self._in_crash(line)
            return
        if prompt := _PROMPT.search(line):
            self._cause(prompt["host"], Gb10Error("SUDO_PASSWORD", host=prompt["host"]))
            yield HostFailed(prompt["host"], self._taken(prompt["host"]), ())
            yield from self.feed(prompt["rest"])
        elif prompt := _KEY_PROMPT.match(line):
            self._locked_key = prompt["key"]
            yield from self.feed(prompt["rest"])
        elif (match := _HOST.match(line)) and match["host"] in self._hosts:
            yield from self._of_host(match["host"], match["text"], own=bool(match["own"]))
        else:
            yield from self._of_run(line)

    def leftover(self) -> tuple[Gb10Error, ...]:
        """Causes that no failure has claimed, for a run that ended badly without a word."""
        return tuple(error for errors in self._causes.values() for error in errors)

    def _of_run(self, line: str) -> Iterator[Event]:
        if operation := _OPERATION.match(line):
            self._causes.clear()
            self._output.clear()
            yield OperationStarted(operation["name"])
        elif stage := next((stage for start, stage in _STAGES.items() if line.startswith(start)), None):
            self._connecting = stage == "connect"
            yield StageStarted(stage)
        elif _CRASH.match(line):
            self._crash = []
        elif abort := _ABORT.match(line):
            yield Aborted(self._abort_error(abort["text"], abort["where"]))
        elif line.strip():
            yield Text(line.removeprefix("    "))

    def _of_host(self, host: str, text: str, *, own: bool) -> Iterator[Event]:
        if not text.startswith(">>> ") and (reported := _REPORTED.search(text)):  # >>> is a command, not its output
            self._cause(host, Gb10Error.reported(reported["code"], reported["text"], host=host))
        if own and (event := self._own_line(host, text)):
            yield event
            return
        self._output.setdefault(host, deque(maxlen=KEPT_LINES)).append(text)
        yield HostOutput(host, text)

    def _own_line(self, host: str, text: str) -> Event | None:  # noqa: PLR0911 - one kind of line, one answer
        if text.startswith("Connected"):
            return Connected(host)
        if text.startswith("Ready:"):
            return Ready(host)
        if connect := _CONNECT.match(text):
            return ConnectFailed(host, self._connect_error(host, connect["kind"], connect["text"]))
        if result := _RESULT.match(text):
            return HostResult(host, _OUTCOMES[result[1]])
        if text.startswith(("Error (ignored", "Retrying ")):
            self._causes.pop(host, None)
            return HostResult(host, "unchanged") if "executed" in text else HostOutput(host, text)
        if fact := _FACT.match(text):
            output = self._said(host)
            return FactFailed(host, fact["fact"], self._taken(host, f"could not read {fact['fact']}"), output)
        if text.startswith("Error: "):
            output = self._said(host)
            silent = "it ended without a word, as when the connection is cut"
            return HostFailed(host, self._taken(host, output[-1] if output else silent), output)
        if foreseen := _FORESEEN.match(text):
            return Foreseen(host, Gb10Error.reported(foreseen["code"], foreseen["text"], host=host))
        if lost := _CONNECTION_LOST.match(text):
            self._cause(
                host, Gb10Error("NODE_UNREACHABLE", f"the connection to {host} broke: {lost['text']}", host=host)
            )
        return None

    def _cause(self, host: str, error: Gb10Error) -> None:
        known = self._causes.setdefault(host, [])
        if str(error) not in map(str, known):
            known.append(error)

    def _taken(self, host: str, fallback: str = "") -> tuple[Gb10Error, ...]:
        return tuple(self._causes.pop(host, ())) or (Gb10Error("OPERATION_FAILED", host=host, reason=fallback),)

    def _said(self, host: str) -> tuple[str, ...]:
        return tuple(self._output.pop(host, ()))

    def _connect_error(self, host: str, kind: str, text: str) -> Gb10Error:
        if kind == "SSH host key error" or "found in known_hosts" in text:
            return Gb10Error("SSH_HOST_KEY", host=host, reason=text.removeprefix("StrictPolicy: "))
        if kind == "EOF error" and self._locked_key:
            reason = f"the key {self._locked_key} asks for a passphrase; put it into ssh-agent and leave out ssh_key"
            return Gb10Error("SSH_AUTH", host=host, reason=reason)
        if _CUT_OFF in text:
            why = (
                "it closed the connection during the login: sshd was stopped, or was offered too many keys of an agent"
            )
            return Gb10Error("NODE_UNREACHABLE", host=host, reason=why)
        if kind == "Authentication error" or "authentication" in text.lower():
            who, _, why = text.rpartition(") (")
            return Gb10Error("SSH_AUTH", host=host, reason=f"{why} ({who})" if who else why)
        return Gb10Error("NODE_UNREACHABLE", host=host, reason=_reason(text) or "it closed the connection")

    def _abort_error(self, text: str, where: str | None) -> Gb10Error | None:
        if _CONSEQUENCE.match(text):
            return None
        if reported := _REPORTED.search(text):
            return Gb10Error.reported(reported["code"], reported["text"])
        if "private key file:" in text:
            return Gb10Error("SSH_AUTH", f"the SSH key cannot be used: {text[0].lower()}{text[1:]}")
        if _CONNECT.match(text):  # on the way to another host's fact: that host's own line has said it
            return None
        return Gb10Error("OPERATION_FAILED", f"pyinfra gave up: {text}" + (f" ({where})" if where else ""))

    def _in_crash(self, line: str) -> Iterator[Event]:
        assert self._crash is not None  # noqa: S101 - for mypy: feed() has looked
        if not line.startswith("--> "):
            if line.strip():
                self._crash.append(line)
            return
        lines, self._crash = self._crash, None
        last = next((text for text in reversed(lines) if not text.startswith(" ")), "no reason given")
        where = next((f" ({match[1]} line {match[2]})" for match in map(_FRAME.search, lines) if match), "")
        # Nobody answers a prompt: the prompt's own line has said what was asked.
        yield Aborted(None if last.startswith("EOFError") else Gb10Error("INTERNAL", reason=f"{last}{where}"))


def _reason(text: str) -> str:
    """Given paramiko's words, return them without its [Errno ...]."""
    return re.sub(r"^\[Errno [^\]]+\] ", "", text)
