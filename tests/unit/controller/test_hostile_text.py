r"""A node's control characters reach neither the terminal nor a log: \r, OSC 52, C1, bidirectional marks, markup."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import paramiko
import pytest

from gb10.controller.inventory import load_inventory
from gb10.controller.rebuild.observation import look
from gb10.controller.run.messages import Event, FactQuery, Logged
from gb10.facts.reading.printable import UNSAFE
from tests.unit.controller.test_process import runner
from tests.unit.pyinfra_project import Project
from tests.unit.ssh_server import SshServer

# As printf writes them: they forge a line of another host, write to the clipboard, and reverse what follows.
ATTACK = r"x\r    [spark-2] done\033]52;c;eA==\007 \302\233 \342\200\256 \v[spark-2] done\302\205[spark-2] done"
TEXT = "x\r[spark-2] done\x1b]52;c;eA==\x07\n[spark-2] done\x85[spark-2] done\x0b[spark-2] done"


@pytest.fixture
def source(project: Project) -> str:
    return project.inventory(spark_1={}, spark_2={})


def test_output_and_log_of_a_failed_command_are_printable(project: Project, source: str) -> None:
    heard: list[Event] = []
    run = runner(source)
    run.verbosity = 3
    kwargs = {"folder": str(project.folder), "run": f"printf '{ATTACK}\\n'; exit 1", "on": "spark-1"}
    result = run.run("tiny.cluster", kwargs=kwargs, on_event=heard.append)
    assert result.log
    for text in (str(heard), result.log.read_text(), *map(str, result.errors), *result.output["spark-1"]):
        assert not UNSAFE.search(text)
    assert r"x\r    [spark-2] done\x1b]52;c;eA==\x07" in result.log.read_text()
    assert not [line for line in result.log.read_text().splitlines() if line.strip().startswith("[spark-2] done")]


@pytest.mark.parametrize("code", ["TOKEN_REJECTED", "NO_SUCH_CODE"])
def test_a_refusal_cannot_speak_for_another_host(project: Project, code: str) -> None:
    heard: list[Event] = []
    run = runner(project.inventory(spark_1={}, spark_2={}))
    result = run.run("tiny.refuse_in_callback", kwargs={"text": TEXT, "code": code}, on_event=heard.append)
    assert result.log
    assert not UNSAFE.search(result.log.read_text())
    said = [event for event in heard if isinstance(event, Logged) and "[spark-2] done" in event.text]
    assert said
    assert all(event.host for event in said), "each line is its own host's"


def test_facts_are_printable(source: str) -> None:
    query: FactQuery[Any] = FactQuery("tiny.Said").with_arguments(text=ATTACK)
    found: Any = runner(source).facts([query]).of("spark-1", query)
    assert found["said"][0].startswith(r"x\r    [spark-2] done\x1b]52;c;eA==\x07")
    assert not UNSAFE.search("".join(found["said"]))


def test_reports_under_pyinfra_are_printable(project: Project, source: str) -> None:
    command = [str(Path(sys.executable).with_name("pyinfra")), "-y", source, "tiny.refuse_in_callback", f"text={TEXT}"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert rb"done\x1b]52;c;eA==\x07" in done.stderr
    assert not UNSAFE.search(done.stderr.decode())
    assert not [line for line in done.stderr.decode().split("\n") if line.strip().startswith("[spark-2] done")]


class Hostile(SshServer):
    """A server that answers every command with control characters."""

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        channel.sendall_stderr(b"\x1b]52;c;eA==\x07\n")
        channel.send_exit_status(255)
        channel.close()


def test_what_a_look_sees_is_printable(project: Project, tmp_path: Path) -> None:
    project.server = server = Hostile(tmp_path)
    try:
        (host,) = load_inventory(project.inventory(spark_1={})).hosts
        assert look(host).refused == r"\x1b]52;c;eA==\x07"
    finally:
        server.stop()
