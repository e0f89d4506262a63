"""Facts are read once, until something changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = """\
from pyinfra.api import FactBase, FunctionCommand, StringCommand
from pyinfra.context import host, state
from pyinfra.operations import server

from gb10.operations.kit import reading
from gb10.operations.kit.operation import await_condition, known, operation

reading.KEPT_SECONDS = {kept}


class Readings(FactBase[int]):
    def command(self, path):
        return f"echo >>{{path}}; wc -l <{{path}}"

    def process(self, output):
        return int(output[0])


@operation()
def look(path):
    found = known(Readings, path=path)
    host.noop(f"reading {{found}}")
    return
    yield


@operation()
def look_twice_in_a_command(path):
    def look_twice(state, host):
        known(Readings, path=path)
        known(Readings, path=path)

    yield FunctionCommand(look_twice, (), {{}})


@operation()
def wait_for_three(path):
    assert not state.is_executing or await_condition(lambda: known(Readings, path=path) >= 3, 5)
    return
    yield


@operation()
def look_after_a_command(path):
    yield StringCommand("true")
    known(Readings, path=path)
    known(Readings, path=path)


for number, step in enumerate({steps!r}):
    if step == "look":
        look(name=f"{{number}}", path="{path}")
    elif step == "twice":
        look_twice_in_a_command(name=f"{{number}}", path="{path}")
    elif step == "after":
        look_after_a_command(name=f"{{number}}", path="{path}")
    elif step == "wait":
        wait_for_three(name=f"{{number}}", path="{path}")
    else:
        server.shell(name=f"{{number}}", commands=["true"])
"""


@pytest.mark.parametrize(
    ("steps", "kept", "readings"),
    [
        (["look", "look", "look"], 60, 1),
        (["look", "look", "change", "look", "look"], 60, 2),  # an operation of pyinfra's own
        (["look", "twice", "look"], 60, 4),  # as when a command polls
        (["look", "after", "look"], 60, 4),
        (["look", "wait"], 60, 3),  # it polls before any command
        (["look", "look"], -1, 2),  # too long ago
    ],
)
def test_a_fact_is_read_again_after_a_change(tmp_path: Path, steps: list[str], kept: int, readings: int) -> None:
    path = tmp_path / "readings"
    (tmp_path / "deploy.py").write_text(DEPLOY.format(steps=steps, kept=kept, path=path))
    command = [sys.executable, "-m", "pyinfra", "@local", "deploy.py", "-y"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(path.read_text().splitlines()) == readings


AHEAD = """\
from pyinfra.context import host

from gb10.facts.file import TextFile
from gb10.facts.reading.launcher import SectionsFact
from gb10.operations.kit.operation import known, operation
from gb10.operations.kit.reading import read_ahead


class Odd(SectionsFact):
    commands = {{"count": "echo >>{path}"}}

    def read_sections(self, found):
        raise ValueError("nobody understands this")


@operation()
def look(fact, **arguments):
    host.noop(f"found {{known(fact, **arguments)}}")
    return
    yield


read_ahead({{Odd: [{{}}], TextFile: [{{"path": "/etc/hostname"}}]}})
look(name="A file", fact=TextFile, path="/etc/hostname")
look(name="An odd fact", fact=Odd)
"""


def test_only_who_needs_an_odd_fact_fails(tmp_path: Path) -> None:
    path = tmp_path / "readings"
    (tmp_path / "deploy.py").write_text(AHEAD.format(path=path))
    command = [sys.executable, "-m", "pyinfra", "@local", "deploy.py", "-y"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Starting operation: A file" in said
    assert said.index("Starting operation: An odd fact") < said.index("Odd does not understand what the node answered")
    assert len(path.read_text().splitlines()) == 2  # ahead, and by the operation
