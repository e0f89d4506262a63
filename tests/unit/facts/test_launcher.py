"""The launcher, over real SSH to a server that runs real commands."""

from __future__ import annotations

import base64
import importlib.resources
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.context import ctx_host, ctx_state

from gb10.facts.reading import channels, launcher, requests
from gb10.facts.reading.launcher import Launch, SectionsFact, equip, run_script, shell_line
from gb10.facts.reading.reports import Report, set_reporter
from gb10.facts.reading.requests import LOADER, SECTIONS, Answer, FloodError, FrameError, sections_job, texts
from gb10.facts.reading.values import Section
from tests.unit.processes import is_running
from tests.unit.programs.launching import ubuntu_python
from tests.unit.ssh_server import SshServer

FOUR = "import os, sys, time, subprocess\nfrom gb10.programs.answer import RefusedError\n"
PROGRAM = "gb10.programs.tried"


class Words(SectionsFact[dict[str, Section]]):
    """Sections of a test."""

    def command(self, commands: dict[str, str]) -> Launch:
        return self.sections(commands)

    def read_sections(self, found: Any) -> dict[str, Section]:
        return dict(found)


@pytest.fixture
def host(ssh_server: SshServer) -> Iterator[Host]:
    """A connected host of pyinfra."""
    inventory = Inventory(([("spark-1", ssh_server.host_data())], {}))
    state = State(inventory, Config())
    with ctx_state.use(state):
        connect_all(state)
        host = inventory.get_host("spark-1")
        with ctx_host.use(host):
            equip(host)
            yield host
        disconnect_all(state)


@pytest.fixture
def reported() -> Iterator[list[Report]]:
    """What is reported meanwhile."""
    found: list[Report] = []
    before = launcher.report.__globals__["_reporter"]
    set_reporter(lambda host, what: found.append(what))
    yield found
    set_reporter(before)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A way to try the text of a program."""

    def tried(body: str, **options: Any) -> Launch:
        text = f"{FOUR}def main(job, outlet):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        real = requests._text
        monkeypatch.setattr(requests, "_text", lambda name: text if name == PROGRAM else real(name))
        texts.cache_clear()
        launch = Launch(f"{PROGRAM}:main", options.pop("job", {}), **options)
        texts.cache_clear()
        return launch

    return tried


def run(host: Host, launch: Launch) -> tuple[bool, Any]:
    done, output = host.run_shell_command(launch)
    return done, json.loads(output.stdout) if done else output.stderr


def test_a_program_gets_its_job_and_answers(host: Host, program: Any) -> None:
    job = {"word": "é \udcff '\"\\ \n", "n": 3}
    assert run(host, program("return [job['word'], job['n']]", job=job)) == (True, [job["word"], 3])


def test_what_a_login_shell_prints_is_no_answer(host: Host, program: Any) -> None:
    noisy = program("print('gb10-x answer 1'); print(''); print('noise', file=sys.stderr); return 7")
    line = f"echo hello; echo '{'x' * 20} answer 5'; {launcher.shell_line(host, noisy, {})}; echo bye"
    answer = noisy.answer()
    with channels.opened(host, line) as channel:
        assert channels.exchange(channel, [noisy.text.encode()], answer.read_line, 1 << 20, 20) == 0
    assert answer.value == 7
    assert "hello" in answer.others
    assert "bye" in answer.others


def test_a_refusal_is_reported_by_its_code(host: Host, program: Any, reported: list[Any]) -> None:
    done, _ = run(host, program("raise RefusedError('DISK_FULL', 'no  room\\nleft')"))
    assert not done
    assert [(what.code, what.text) for what in reported] == [("DISK_FULL", "no room left")]


def test_reports_come_while_the_program_runs(host: Host, program: Any) -> None:
    seen: list[tuple[dict[str, Any], float]] = []
    launch = program(
        "outlet.report(sent=1)\ntime.sleep(1)\nreturn 1",
        on_report=lambda sent: seen.append((sent, time.monotonic())),
    )
    assert run(host, launch) == (True, 1)
    assert seen[0][0] == {"sent": 1}
    assert time.monotonic() - seen[0][1] > 0.9


def test_a_traceback_is_for_a_person_and_no_answer(host: Host, program: Any) -> None:
    done, said = run(host, program("raise ValueError('seven')"))
    assert not done
    assert "ValueError: seven" in said


def test_a_large_answer_is_whole_and_a_larger_one_refused(host: Host, program: Any, reported: list[Any]) -> None:
    assert run(host, program("return 'x' * 5_000_000")) == (True, "x" * 5_000_000)
    done, _ = run(host, program("return 'x' * 5_000_000", answer_bytes=1_000_000))
    assert not done
    assert [what.code for what in reported] == ["NODE_ANSWER"]


def test_a_node_that_floods_is_cut_off(host: Host, program: Any, reported: list[Any]) -> None:
    launch = program("while True: os.write(1, b'x' * 65536)", answer_bytes=1 << 20)
    began = time.monotonic()
    done, _ = run(host, launch)
    assert not done
    assert [what.code for what in reported] == ["NODE_ANSWER"]
    assert time.monotonic() - began < 10


def test_a_program_ends_after_its_time(host: Host, program: Any) -> None:
    began = time.monotonic()
    done, _ = run(host, program("time.sleep(60)", seconds=1))
    assert not done
    assert time.monotonic() - began < 10


def test_a_program_gets_no_more_memory_than_it_may(host: Host, program: Any, reported: list[Any]) -> None:
    done, _ = run(host, program("x = bytearray(400 << 20)\nreturn len(x)", memory_bytes=200 << 20))
    assert not done
    assert [what.code for what in reported] == ["PROGRAM_FAILED"]


def test_locale_and_path_are_the_systems(host: Host, program: Any) -> None:
    done, found = run(host, program("return [os.environ['LC_ALL'], os.environ['PATH'].split(':')[0]]"))
    assert done
    assert found == ["C.UTF-8", "/usr/local/sbin"]


def test_a_program_and_its_children_end_with_the_connection(program: Any, tmp_path: Path) -> None:
    body = f"p = subprocess.Popen(['sleep', '987'])\nopen('{tmp_path}/pids', 'w').write(f'{{os.getpid()}} {{p.pid}} ')"
    launch = program(f"{body}\ntime.sleep(600)", seconds=900)
    pipe = subprocess.PIPE  # what sshd gives a command, and closes when its connection is gone
    process = subprocess.Popen(["sh", "-c", launch.get_raw_value()], stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin
    assert process.stdout
    process.stdin.write(launch.text.encode())
    process.stdin.flush()
    deadline = time.monotonic() + 10
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text().endswith(" "):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.stdout.close()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "they still run"
        time.sleep(0.05)
    process.wait()


def test_a_program_clears_up_when_its_time_is_over(host: Host, program: Any, tmp_path: Path) -> None:
    left = tmp_path / "left"
    body = f"path = '{left}'\nopen(path, 'w').close()\ntry:\n    time.sleep(60)\nfinally:\n    os.unlink(path)"
    done, _ = run(host, program(body, seconds=2))
    assert (done, left.exists()) == (False, False)


def test_nothing_of_the_job_stands_on_a_command_line(program: Any) -> None:
    launch = program("return 1", job={"secret": "canary-1234"})
    assert "canary-1234" not in launch.get_raw_value()
    assert "\\" not in launch.get_raw_value()
    assert len(launch.get_raw_value()) < 300


@pytest.mark.parametrize("over_ssh", [True, False])
def test_nothing_of_job_and_answer_is_printed(
    host: Host, program: Any, over_ssh: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    where = host if over_ssh else Inventory((["@local"], {})).get_host("@local")
    if not over_ssh:
        where.init(host.state)
    equip(where)
    launch = program("return job['secret'] + '-told'", job={"secret": "canary-1234"})
    done, output = where.run_shell_command(launch, print_output=True, print_input=True)
    assert (done, json.loads(output.stdout)) == (True, "canary-1234-told")
    assert "canary" not in "".join(capfd.readouterr())


def test_a_stream_of_bytes_is_whole_both_ways(host: Host, program: Any) -> None:
    body = "data = sys.stdin.buffer.read()\noutlet.report(got=len(data))\noutlet.write(data[::-1])\nreturn 'end'"
    launch = program(body, streams=True)
    answer, taken, told = launch.answer(), bytearray(), list[object]()
    answer.on_report = told.append
    sent = os.urandom(3_000_000)
    line = f"echo noise; {shell_line(host, launch, {})}"
    with channels.opened(host, line) as channel:
        give = iter([launch.text.encode(), sent])
        assert channels.stream(channel, launch.mark, give, taken.extend, answer.read_line, 30) == 0
    assert bytes(taken) == sent[::-1]
    assert (answer.value, told) == ("end", [{"got": len(sent)}])


def test_a_stream_that_ends_early_is_incomplete(host: Host, program: Any) -> None:
    launch = program("outlet.write(b'half')\nos._exit(0)", streams=True)
    with channels.opened(host, shell_line(host, launch, {})) as channel, pytest.raises(EOFError):
        channels.stream(channel, launch.mark, [launch.text.encode()], lambda data: None, launch.answer().read_line, 30)


def test_sections_do_not_fail_each_other(host: Host) -> None:
    commands = {"one": "echo one; echo two", "absent": "no-such-command", "bad": "exit 3", "quote": "printf '%s' \"'\""}
    found = host.get_fact(Words, commands=commands)
    assert found["one"] == Section(("one", "two"), 0)
    assert found["absent"].status == 127
    assert found["bad"].status == 3
    assert found["quote"].first == "'"


def test_a_section_that_floods_fails_alone(host: Host) -> None:
    found = host.get_fact(Words, commands={"flood": "yes", "one": "echo one"})
    assert found["flood"].status != 0
    assert found["one"].first == "one"


def test_a_script_has_arguments_and_variables_and_refuses(host: Host, reported: list[Any]) -> None:
    text = 'printf "%s|%s|%s" "$1" "$2" "$secret"'
    assert run(host, run_script(text, "a b", "c'd", seconds=10, variables={"secret": "x'y\nz"})) == (
        True,
        "a b|c'd|x'y\nz",
    )
    done, _ = run(host, run_script('refuse TRIAL_RUNS "it is  busy"; echo no', seconds=10))
    assert not done
    assert [(what.code, what.text) for what in reported] == [("TRIAL_RUNS", "it is busy")]


@pytest.mark.parametrize("line", ["report 5", "answer", "answer {", "refused [1]", "other 1", "answer/deflated !!"])
def test_a_line_with_the_mark_that_is_no_answer_is_refused(line: str) -> None:
    answer = Answer("m", 1000)
    with pytest.raises(FrameError):
        answer.read_line(f"m {line}")


def test_an_answer_does_not_inflate_beyond_its_bound() -> None:
    bomb = base64.b64encode(zlib.compress(b'"' + b"x" * 10_000_000 + b'"')).decode()
    with pytest.raises(FloodError):
        Answer("m", 1_000_000).read_line(f"m answer/deflated {bomb}")


@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_bootstrap_runs_on_the_python_of_ubuntu(version: str) -> None:
    launch = Launch(SECTIONS, sections_job({"a": "echo 1"}))
    command = [ubuntu_python(version) or sys.executable, "-I", "-S", "-c", LOADER]
    done = subprocess.run(command, input=launch.text, capture_output=True, text=True, check=True)
    assert launch.read(done.stdout) == {"a": [0, "1\n"]}


def test_every_module_of_programs_can_travel() -> None:
    for path in importlib.resources.files("gb10.programs").iterdir():
        if path.name.endswith(".py") and path.name != "__init__.py":
            assert f"gb10.programs.{path.name[:-3]}" in texts(f"gb10.programs.{path.name[:-3]}")
