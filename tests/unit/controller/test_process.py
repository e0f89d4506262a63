"""The pyinfra process when something goes wrong: it, a node, or an inventory."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paramiko
import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import load_inventory
from gb10.controller.run import client
from gb10.controller.run.client import PyinfraProcess
from gb10.controller.run.messages import (
    Event,
    FactQuery,
    FactsDone,
    FactValue,
    Failure,
    ForeignObjectError,
    HostFailed,
    OperationResult,
    OperationStarted,
    RunDone,
    StageStarted,
    loads,
)
from gb10.controller.run.runner import RunLog, Runner
from gb10.facts.reading.rdma import PortFault
from tests.unit.pyinfra_project import Project

FINE: FactQuery[Any] = FactQuery("tiny.Fine")
LONG_LINE: FactQuery[Any] = FactQuery("tiny.LongLine")
MANY_LINES: FactQuery[Any] = FactQuery("tiny.ManyLines")
QUICK: FactQuery[Any] = FactQuery("tiny.Quick")
SLOW: FactQuery[Any] = FactQuery("tiny.Slow")
SLOW_ON_FIRST: FactQuery[Any] = FactQuery("tiny.SlowOnFirst")


def runner(source: str = "inventory.py") -> Runner:
    return Runner(load_inventory(source), RunLog("test"))


def once(kind: type[Any], do: Callable[[], object]) -> Callable[[Event], None]:
    """Return what does something at the first event of a kind."""
    done: list[Event] = []

    def hear(event: Event) -> None:
        if isinstance(event, kind) and not done:
            done.append(event)
            do()

    return hear


def strike(number: int) -> None:
    os.kill(PyinfraProcess.ours().pid, number)


def codes(errors: tuple[Gb10Error, ...]) -> list[str]:
    return [error.code for error in errors]


@pytest.fixture
def two(project: Project) -> str:
    return project.inventory(spark_1={}, spark_2={})


# The pipe ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [os.system, Path("/etc"), eval, loads, Gb10Error.reported, Exception("x"), pickle.PickleBuffer, PyinfraProcess],
)
def test_a_message_with_anything_foreign_is_refused(thing: object) -> None:
    with pytest.raises(ForeignObjectError):
        loads(pickle.dumps(thing))


def test_a_message_cannot_import_a_module() -> None:
    with pytest.raises(ForeignObjectError):
        loads(b"cgb10.controller.run.process\nPipe\n.")
    assert "gb10.controller.run.process" not in sys.modules


def test_a_message_of_ours_arrives_as_it_was_sent() -> None:
    failure = Failure("DISK_FULL", "spark-1", "no room")
    for message in (
        HostFailed("spark-1", (failure,), ("said",)),
        RunDone((OperationResult("x", changed=("a",)),)),
        FactsDone((FactValue("spark-1", FINE, PortFault.HALF_DOWN),)),
    ):
        assert loads(pickle.dumps(message)) == message


# The process ---------------------------------------------------------------------------------------------------------


def test_nothing_of_the_current_folder_is_imported(project: Project, two: str) -> None:
    for name in ("json", "gevent", "typeguard", "importlib_metadata"):
        (project.root / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    assert runner().run("tiny.nothing").ok


def test_a_process_serves_many_requests(two: str) -> None:
    run = runner()
    pid = PyinfraProcess.ours().pid
    assert run.run("tiny.nothing").ok
    assert run.facts([FINE]).has("spark-2", FINE)
    assert run.run("tiny.nothing", dry=True).ok
    assert PyinfraProcess.ours().pid == pid


def test_host_keys_are_read_anew_for_each_request(project: Project) -> None:
    other = project.root / "known"
    other.write_text(project.server.known_line())
    run = runner(project.inventory(spark_1={"ssh_known_hosts_file": str(other)}))
    assert run.run("tiny.nothing").ok
    project.server.host_keys = [paramiko.ECDSAKey.generate()]
    assert codes(run.run("tiny.nothing").errors) == ["SSH_HOST_KEY"]
    other.write_text(project.server.known_line())
    assert run.run("tiny.nothing").ok


def test_a_process_that_is_killed_while_it_reads_facts_is_an_error(two: str) -> None:
    run = runner()
    with pytest.raises(Gb10Error, match="signal 9") as raised:
        run.facts([SLOW], once(StageStarted, lambda: strike(signal.SIGKILL)))
    assert raised.value.code == "OPERATION_FAILED"
    assert run.facts([FINE]).has("spark-1", FINE), "the next request has a new process"


def test_a_process_that_is_killed_in_a_run_is_an_error(project: Project, two: str) -> None:
    kwargs = {"folder": str(project.folder), "run": "sleep 60", "on": "spark-1"}
    killed = once(OperationStarted, lambda: strike(signal.SIGKILL))
    result = runner().run("tiny.cluster", kwargs=kwargs, on_event=killed)
    assert [error.summary for error in result.errors] == ["pyinfra ended early (killed by signal 9)"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 2.0)


def test_a_process_that_hangs_is_ended(two: str, impatient: None) -> None:
    began = time.monotonic()
    with pytest.raises(Gb10Error, match="does not answer any more"):
        runner().facts([SLOW], once(StageStarted, lambda: strike(signal.SIGSTOP)))
    assert time.monotonic() - began < 20


def test_a_process_that_works_is_not_taken_for_one_that_hangs(
    project: Project, two: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 8.0)
    kwargs = {"folder": str(project.folder), "run": "sleep 10", "on": "spark-1"}
    assert runner().run("tiny.cluster", kwargs=kwargs).ok


def test_a_process_that_needs_too_much_memory_ends(two: str) -> None:
    result = runner().run("tiny.greedy")
    assert [error.summary for error in result.errors] == ["pyinfra ended early (it needs too much memory)"]


def test_what_prints_on_standard_output_goes_into_the_log(project: Project) -> None:
    source = project.inventory(spark_1={})
    with (project.root / source).open("a") as file:
        file.write("import os\nprint('printed ' * 3)\nos.write(1, b'written')\n")
    result = runner(source).run("tiny.nothing")
    assert result.ok
    assert result.log
    assert "printed printed printed" in result.log.read_text()


# Inventories ---------------------------------------------------------------------------------------------------------


def broken(text: str) -> str:
    Path("broken.py").write_text(text)
    with pytest.raises(Gb10Error) as raised:
        load_inventory("broken.py")
    assert raised.value.code == "INVENTORY_BROKEN"
    return raised.value.summary


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("head = [", "SyntaxError: '[' was never closed (broken.py, line 1)"),
        ("head = ['a']\nhead[7]", "IndexError: list index out of range (broken.py, line 2)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (broken.py, line 2)"),
        ("import os\nos.kill(os.getpid(), 9)", "killed by signal 9"),
        ("import os\nos._exit(0)", "exit code 0"),
        ("x = bytearray(9 << 30)", "MemoryError"),
    ],
)
def test_an_inventory_that_does_not_load_is_an_error(project: Project, text: str, told: str) -> None:
    assert told in broken(text)


def test_an_inventory_that_does_not_end_loading_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gb10.controller.inventory.LOAD_SECONDS", 1)
    assert "no result within 1 s" in broken("while True: pass")
    monkeypatch.setattr("gb10.controller.inventory.LOAD_SECONDS", 60)
    project.inventory(spark_1={})
    assert load_inventory("inventory.py").names == ("spark-1",)


def test_a_password_never_leaves_the_process(project: Project) -> None:
    source = project.inventory(spark_1={"ssh_password": "canary", "_sudo_password": "canary"})
    assert "canary" not in repr(load_inventory(source))


# Nodes ---------------------------------------------------------------------------------------------------------------


class Relay:
    """A way to a server that can fall silent without being cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._open.clear()

    def _accept(self) -> None:
        while True:
            ends = (self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._target)))
            for source, target in (ends, ends[::-1]):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)


@pytest.fixture
def relay(project: Project) -> Iterator[Relay]:
    relay = Relay(project.server.port)
    line = project.server.known_line()
    project.server.known_hosts.write_text(line + line.replace(str(project.server.port), str(relay.port)))
    yield relay
    relay._open.set()


def test_a_node_that_falls_silent_is_unreachable_in_time(
    project: Project, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gb10.controller.run.runner.FACT_SILENCE_SECONDS", 1.0)
    run = runner(project.inventory(spark_1={}, spark_2={"ssh_port": relay.port}))
    began = time.monotonic()
    found = run.facts([QUICK, FINE], freezes(relay))
    assert found.has("spark-1", FINE)
    assert {(error.code, error.host) for error in found.errors} == {("NODE_UNREACHABLE", "spark-2")}
    assert time.monotonic() - began < 30


def test_a_node_that_falls_silent_in_a_run_is_unreachable_in_time(
    project: Project, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gb10.controller.run.runner.RUN_SILENCE_SECONDS", 1.0)
    run = runner(project.inventory(spark_1={"ssh_port": relay.port}))
    kwargs = {"folder": str(project.folder), "run": "sleep 1", "on": "spark-1"}
    result = run.run("tiny.cluster", kwargs=kwargs, on_event=once(OperationStarted, relay.freeze))
    assert codes(result.errors) == ["NODE_UNREACHABLE"]


def test_a_fact_that_takes_too_long_fails_on_its_host_alone(two: str) -> None:
    found = runner(two).facts([SLOW_ON_FIRST], seconds=2.0)
    assert found.has("spark-2", SLOW_ON_FIRST)
    assert [(error.code, error.host) for error in found.errors] == [("NODE_UNREACHABLE", "spark-1")]


@pytest.mark.parametrize("fact", [MANY_LINES, LONG_LINE])
def test_a_node_that_sends_without_end_fails_its_fact_alone(project: Project, fact: FactQuery[Any]) -> None:
    found = runner(project.inventory(spark_1={})).facts([fact, FINE])
    assert codes(found.errors) == ["NODE_ANSWER"]
    assert not found.has("spark-1", fact)
    assert found.has("spark-1", FINE)


def freezes(relay: Relay) -> Callable[[Event], None]:
    """Return what freezes a relay once all hosts are connected."""

    def hear(event: Event) -> None:
        if event == StageStarted("facts"):
            relay.freeze()

    return hear
