"""The one way in which programs of ours run on a node: requests as commands of pyinfra, in facts and operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from pyinfra.api import FactBase, Host, State, StringCommand
from pyinfra.api.exceptions import FactProcessError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import (
    SUDO_PASSWORD_REQUIRED_LINES,
    CommandOutput,
    OutputLine,
    make_unix_command_for_host,
)

from gb10.facts.reading import channels
from gb10.facts.reading.reports import Refused, Report, report
from gb10.facts.reading.requests import (
    KILL_SECONDS,
    MEMORY_BYTES,
    PROGRAMS,
    SECTIONS,
    Answer,
    FloodError,
    FrameError,
    Request,
    sections_job,
)
from gb10.facts.reading.values import Sections, read_answer

OTHER_BYTES = 4 << 20  # what a node may print beside an answer

Value = TypeVar("Value")


class Launch(Request, StringCommand):
    """A request as a command of pyinfra.

    `refused` is called with its refusal; None: it is reported.
    """

    def __init__(
        self, function: str, job: Mapping[str, Any], *, reports: Callable[..., Report] | None = None, **options: Any
    ) -> None:
        """
        Make the request: see Request for the other arguments.

        + reports: makes a report of what the program reports while it runs
        """
        Request.__init__(self, function, job, **options)
        self.reports = reports
        self.refused: Callable[[Refused], None] | None = None
        StringCommand.__init__(self, self.line, _stdin=self.text)


class ProgramFact(FactBase[Value], Generic[Value]):
    """A fact whose `command` returns a Launch. `read` makes the value of the program's answer.

    It raises FactProcessError for a host whose answer is not understood; facts on other hosts go on.
    """

    command: Callable[..., Launch]

    def check_preconditions(self, state: State, host: Host) -> str | None:
        """Have the host's connector run our programs; nothing is required of the host."""
        equip(host)
        return None

    def read(self, answer: Any) -> Value:
        """Given the program's answer, return the value."""
        raise NotImplementedError

    def understand(self, answer: Any) -> Value:
        """Return the value. Raise FactProcessError, which fails one host, for whatever `read` raises."""
        try:
            return self.read(answer)
        except FactProcessError:
            raise
        except Exception as error:
            name = type(self).__name__
            raise FactProcessError(f"{name} does not understand what the node answered: {error!r}") from error

    def process(self, output: list[str]) -> Value:
        """Given the line that a Launch prints, return the value."""
        return self.understand(json.loads(output[0]))


class SectionsFact(ProgramFact[Value], Generic[Value]):
    """A fact that reads several shell commands and files in one round trip.

    They are named in `commands` and `files`; a fact with arguments has a `command` that returns `sections(...)`.
    """

    commands: ClassVar[Mapping[str, str]] = {}
    files: ClassVar[Mapping[str, str]] = {}

    def command(self, *args: Any, **kwargs: Any) -> Launch:
        if args or kwargs:
            raise TypeError(f"{type(self).__name__} takes no arguments")
        return self.sections(self.commands, self.files)

    def sections(
        self, commands: Mapping[str, str], files: Mapping[str, str] | None = None, guarded: Sequence[str] = ()
    ) -> Launch:
        """Given shell commands and paths by name, return the command that reads them; none fails the others.

        See Request for `guarded`.
        """
        return Launch(SECTIONS, sections_job(commands, files), guarded=guarded)

    def read(self, answer: Any) -> Value:
        return self.read_sections(read_answer(answer))

    def read_sections(self, found: Sections) -> Value:
        """Given the sections, return the value."""
        raise NotImplementedError


class Together(ProgramFact[dict[int, Any]]):
    """Several SectionsFacts in one round trip, each with its arguments: place -> value of those that are understood."""

    def command(self, facts: Sequence[tuple[type[SectionsFact[Any]], Mapping[str, Any]]]) -> Launch:
        self._facts = [fact() for fact, _ in facts]
        job: dict[str, dict[str, str]] = {"commands": {}, "files": {}}
        guarded: list[str] = []
        for number, (fact, (_, arguments)) in enumerate(zip(self._facts, facts, strict=True)):
            launch = fact.command(**arguments)
            guarded += launch.guarded
            for kind, wanted in launch.job.items():
                job[kind] |= {f"{number} {name}": text for name, text in wanted.items()}
        return Launch(SECTIONS, job, guarded=guarded)

    def read(self, answer: Any) -> dict[int, Any]:
        answers: list[dict[str, Any]] = [{} for _ in self._facts]
        for name, section in answer.items():
            number, _, own = name.partition(" ")
            answers[int(number)][own] = section
        values = {}
        for number, (fact, own) in enumerate(zip(self._facts, answers, strict=True)):
            with suppress(FactProcessError):
                values[number] = fact.understand(own)
        return values


def run_script(
    text: str,
    *arguments: str,
    seconds: int,
    variables: Mapping[str, str] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    outlives: bool = False,
    guarded: Sequence[str] = (),
) -> Launch:
    """Given the text of a shell script, return the command that runs it. Its answer is what the script prints.

    + variables: set in the script; unlike arguments they may be secret
    + outlives: it goes on when the connection is lost
    + guarded: as for Request

    A script says `refuse CODE REASON` to refuse.
    """
    job = {"text": text, "arguments": list(arguments), "variables": dict(variables or {}), "outlives": outlives}
    job["seconds"] = seconds
    options: dict[str, Any] = {"seconds": seconds, "memory_bytes": memory_bytes, "guarded": guarded}
    return Launch(f"{PROGRAMS}.script:main", job, **options)


def equip(host: Host, connector: BaseConnector | None = None) -> None:
    """Have a connector give a Launch its input and read its answer, in facts and operations alike.

    + connector: another one than the host's own

    pyinfra passes a command's own arguments, such as its standard input, to the connector in operations only
    (pyinfra 3.10: api/command.py, api/facts.py). Its connectors also keep all that a node sends.
    """
    connector = connector or host.connector
    if "run_shell_command" in vars(connector):
        return
    original = connector.run_shell_command

    def run_shell_command(
        command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        if not isinstance(command, Launch):
            return original(command, print_output, print_input, **arguments)
        # Whatever is printed of other commands: an answer may hold a secret.
        by_connector = partial(original, command, False, print_input, **{**arguments, "_stdin": command.text})
        return _launch(host, command, connector, by_connector, arguments)

    connector.run_shell_command = run_shell_command  # type: ignore[method-assign]


def _launch(
    host: Host,
    launch: Launch,
    connector: BaseConnector,
    by_connector: Callable[[], tuple[bool, CommandOutput]],
    arguments: Mapping[str, Any],
) -> tuple[bool, CommandOutput]:
    """Run a launch; return whether it answered, and its answer as one line of JSON on standard output."""
    if makes := launch.reports:
        launch.on_report = lambda details: report(host, makes(**details))
    answer = launch.answer()
    refused = launch.refused or partial(report, host)
    try:
        over_ssh = isinstance(connector, SSHConnector)
        status = over_ssh and _over_ssh(host, launch, connector, answer, arguments)
        wants_password = any(line.strip() in SUDO_PASSWORD_REQUIRED_LINES for line in answer.others)
        # Any other connector runs it as pyinfra does, and so does SSH if sudo wants a password: pyinfra knows it.
        if not over_ssh or (not status and wants_password):
            answer = launch.answer()
            status, output = by_connector()
            for line in output.output_lines:
                answer.read_line(line)
    except (FloodError, FrameError) as error:
        refused(Refused("NODE_ANSWER", f"{host.name}: {error}"))
        return False, CommandOutput([OutputLine("stderr", str(error))])
    if answer.refusal:
        refused(Refused(*answer.refusal))
    if not status or answer.refusal or not answer.complete:
        return False, CommandOutput([OutputLine("stderr", line) for line in answer.others])
    return True, CommandOutput([OutputLine("stdout", json.dumps(answer.value))])


def _over_ssh(
    host: Host, launch: Launch, connector: BaseConnector, answer: Answer, arguments: Mapping[str, Any]
) -> bool:
    with channels.opened(host, shell_line(host, launch, arguments), connector) as channel:
        give = [launch.text.encode()]
        bound = launch.answer_bytes + OTHER_BYTES
        status = channels.exchange(channel, give, answer.read_line, bound, launch.seconds + 2 * KILL_SECONDS)
    return status == 0


def shell_line(host: Host, launch: Launch, arguments: Mapping[str, Any]) -> str:
    """Return the command line that a node's login shell gets for a launch."""
    control = ("_stdin", "_timeout", "_get_pty", "_success_exit_codes")
    wanted = {key: value for key, value in arguments.items() if key not in control}
    return str(make_unix_command_for_host(host.state, host, launch, **wanted).get_raw_value())
