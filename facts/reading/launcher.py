"""The one way in which programs of ours run on a node.

Text and job travel on standard input; the command line holds a fixed loader alone. The program runs with LC_ALL=C.UTF-8
and the system's PATH, for a limited time and with limited memory, and ends when the connection does. Its answer comes
on lines that begin with a random mark, so nothing that a login shell prints is taken for it, and its size is bounded.
"""

from __future__ import annotations

import ast
import functools
import json
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Generic, TypeVar

from pyinfra.api import FactBase, Host, State, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.api.exceptions import FactProcessError
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import (
    SUDO_PASSWORD_REQUIRED_LINES,
    CommandOutput,
    OutputLine,
    make_unix_command_for_host,
)

from gb10.facts.reading import channels
from gb10.facts.reading.frames import Answer, FloodError, FrameError
from gb10.facts.reading.reports import Refused, report
from gb10.facts.reading.sections import Section, read_answer

LOADER = "import json,sys;exec(json.loads(sys.stdin.buffer.readline()))"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = "gb10.programs"
SECONDS = 60
MEMORY_BYTES = 2 << 30
ANSWER_BYTES = 64 << 20
KILL_SECONDS = 15  # from the end of its time until a program is killed
OTHER_BYTES = 4 << 20  # what a node may print beside an answer

Value = TypeVar("Value")


class Launch(StringCommand):
    """A command that runs a function of a program on a node.

    + function: "gb10.programs.images.listing:main"
    + job: what the function gets: a JSON object; it may hold secrets
    + seconds: how long it may take
    + told: called with what the program reports while it runs
    """

    def __init__(
        self,
        function: str,
        job: Mapping[str, Any],
        *,
        seconds: int = SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        answer_bytes: int = ANSWER_BYTES,
        streams: bool = False,
        told: Callable[[dict[str, Any]], None] = lambda details: None,
    ) -> None:
        self.function = function
        self.job = job
        self.seconds = seconds
        self.answer_bytes = answer_bytes
        self.told = told
        self.refused: Callable[[Refused], None] | None = None  # called with a refusal; None: it is reported
        self.mark = f"gb10-{secrets.token_hex(12)}"
        request = {
            "mark": self.mark,
            "modules": texts(function.partition(":")[0]),
            "function": function,
            "job": job,
            "memory_bytes": memory_bytes,
            "answer_bytes": answer_bytes,
            "streams": streams,
        }
        self.text = f"{json.dumps(_bootstrap())}\n{json.dumps(request)}\n"
        limit = f"timeout --kill-after={KILL_SECONDS} {seconds}"
        super().__init__(
            f"exec env PATH={PATH} LC_ALL=C.UTF-8 {limit} python3 -I -c", QuoteString(LOADER), _stdin=self.text
        )

    def answer(self) -> Answer:
        """Return what takes in the lines of the answer."""
        return Answer(self.mark, self.answer_bytes, self.told)


@functools.cache
def _bootstrap() -> str:
    return files(PROGRAMS).joinpath("bootstrap.py").read_text()


@functools.cache
def texts(module: str) -> dict[str, str]:
    """Given a module of gb10.programs, return name -> text of it and of all that it imports from there."""
    found: dict[str, str] = {}
    left = [module, f"{PROGRAMS}.answer"]
    while left:
        name = left.pop()
        if name in found or not (text := _text(name)):
            continue
        found[name] = text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PROGRAMS):
                left += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return dict(sorted(found.items()))


@functools.cache
def _text(module: str) -> str:
    """The text of a module of gb10.programs; empty for a package, and for a name in a module."""
    place = files(PROGRAMS).joinpath(*module.removeprefix(PROGRAMS).strip(".").split("."))
    path = place.parent.joinpath(f"{place.name}.py") if hasattr(place, "parent") else place
    return path.read_text() if path.is_file() else ""


class ProgramFact(FactBase[Value], Generic[Value]):
    """A fact whose `command` returns a Launch. `read` makes the value of the program's answer."""

    def check_preconditions(self, state: State, host: Host) -> str | None:
        """Have the host's connector run our programs; nothing is required of the host."""
        equip(host)
        return None

    def read(self, answer: Any) -> Value:
        """Given the program's answer, return the value. Whatever it raises fails the fact on this host alone."""
        raise NotImplementedError

    def process(self, output: list[str]) -> Value:
        try:
            return self.read(json.loads(output[0]))
        except FactProcessError:
            raise
        except Exception as error:
            name = type(self).__name__
            raise FactProcessError(f"{name} does not understand what the node answered: {error!r}") from error


class SectionsFact(ProgramFact[Value], Generic[Value]):
    """A fact that reads several shell commands in one round trip. `command` returns `sections(...)`."""

    def sections(self, commands: Mapping[str, str], seconds: int = SECONDS) -> Launch:
        """Given shell commands by name, return the command that runs all of them, none of which fails the others."""
        return Launch(f"{PROGRAMS}.sections:main", {"commands": dict(commands)}, seconds=seconds)

    def read(self, answer: Any) -> Value:
        return self.read_sections(read_answer(answer))

    def read_sections(self, found: Mapping[str, Section]) -> Value:
        """Given the sections by name, return the value. Whatever it raises fails the fact on this host alone."""
        raise NotImplementedError


def run_script(text: str, *arguments: str, seconds: int, variables: Mapping[str, str] | None = None) -> Launch:
    """Given the text of a shell script, return the command that runs it.

    + variables: set in the script; unlike arguments they may be secret

    A script says `refuse CODE REASON` to refuse.
    """
    job = {"text": text, "arguments": list(arguments), "variables": dict(variables or {})}
    return Launch(f"{PROGRAMS}.script:main", job, seconds=seconds)


# Running one ---------------------------------------------------------------------------------------------------------


def equip(host: Host) -> None:
    """Have a host's connector give a Launch its input and read its answer, in facts and operations alike.

    pyinfra passes a command's own arguments, such as its standard input, to the connector in operations only
    (pyinfra 3.10: api/command.py, api/facts.py). Its connectors also keep all that a node sends.
    """
    connector = host.connector
    if "run_shell_command" in vars(connector):
        return
    original = connector.run_shell_command

    def run_shell_command(
        command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        if not isinstance(command, Launch):
            return original(command, print_output, print_input, **arguments)
        return _launch(host, command, original, print_output, print_input, arguments)

    connector.run_shell_command = run_shell_command  # type: ignore[method-assign]


def _launch(
    host: Host,
    launch: Launch,
    original: Callable[..., tuple[bool, CommandOutput]],
    print_output: bool,
    print_input: bool,
    arguments: Mapping[str, Any],
) -> tuple[bool, CommandOutput]:
    """Run a launch; return whether it answered, and its answer as one line of JSON on standard output."""
    answer = launch.answer()
    refused = launch.refused or functools.partial(report, host)
    try:
        if isinstance(host.connector, SSHConnector):
            status = _over_ssh(host, launch, answer, arguments)
            if not status and _wants_password(answer.others):  # pyinfra knows how to ask for it
                answer = launch.answer()
                status = _by_connector(launch, answer, original, print_output, print_input, arguments)
        else:
            status = _by_connector(launch, answer, original, print_output, print_input, arguments)
    except (FloodError, FrameError) as error:
        refused(Refused("NODE_ANSWER", f"{host.name}: {error}"))
        return False, CommandOutput([OutputLine("stderr", str(error))])
    if answer.refusal:
        refused(Refused(*answer.refusal))
    lines = [OutputLine("stderr", line) for line in answer.others]
    if not status or answer.refusal or not answer.complete:
        return False, CommandOutput(lines)
    return True, CommandOutput([OutputLine("stdout", json.dumps(answer.value))])


def _over_ssh(host: Host, launch: Launch, answer: Answer, arguments: Mapping[str, Any]) -> bool:
    with channels.opened(host, shell_line(host, launch, arguments)) as channel:
        give = [launch.text.encode()]
        bound = launch.answer_bytes + OTHER_BYTES
        status = channels.converse(channel, give, answer.hear, bound, launch.seconds + 2 * KILL_SECONDS)
    return status == 0


def _by_connector(
    launch: Launch,
    answer: Answer,
    original: Callable[..., tuple[bool, CommandOutput]],
    print_output: bool,
    print_input: bool,
    arguments: Mapping[str, Any],
) -> bool:
    status, output = original(launch, print_output, print_input, **{**arguments, "_stdin": launch.text})
    for line in output.output_lines:
        answer.hear(line)
    return status


def shell_line(host: Host, launch: Launch, arguments: Mapping[str, Any]) -> str:
    """Return the command line that a node's login shell gets for a launch."""
    control = ("_stdin", "_timeout", "_get_pty", "_success_exit_codes")
    wanted = {key: value for key, value in arguments.items() if key not in control}
    return str(make_unix_command_for_host(host.state, host, launch, **wanted).get_raw_value())


def _wants_password(lines: Sequence[str]) -> bool:
    return any(line.strip() in SUDO_PASSWORD_REQUIRED_LINES for line in lines)


# Each command runs in a subshell of its own, without standard input, so that nothing it does reaches the next one.
PRINT_SECTION = r"""s() { echo "@@gb10 $1"; (eval "$2") 2>/dev/null </dev/null; printf '\n@@gb10= %s\n' "$?"; };"""
Fact = TypeVar("Fact")


def sections(commands: Mapping[str, str]) -> StringCommand:
    """Given shell commands by name, return one POSIX shell command that prints all of them as sections."""
    calls = (f"s {shlex.quote(name)} {shlex.quote(command)}" for name, command in commands.items())
    return StringCommand(f"PATH={PATH}; export PATH;", PRINT_SECTION, "; ".join(calls))


def understood(process: Callable[[Fact, list[str]], Value]) -> Callable[[Fact, list[str]], Value]:
    """Turn what a fact's `process` raises into FactProcessError: it fails one host, all else aborts the run."""

    @functools.wraps(process)
    def wrapped(fact: Fact, output: list[str]) -> Value:
        try:
            return process(fact, output)
        except FactProcessError:
            raise
        except Exception as error:
            raise FactProcessError(
                f"{type(fact).__name__} does not understand what the node printed: {error!r}"
            ) from error

    return wrapped
