"""The progress and the result of a run."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from gb10.cli.screen import console
from gb10.controller.errors import Gb10Error
from gb10.controller.run.messages import (
    Aborted,
    Connected,
    Event,
    Failure,
    HostFailed,
    Logged,
    OperationEnded,
    OperationResult,
    OperationStarted,
    Ready,
    StageStarted,
)
from gb10.controller.run.results import RunResult

HOSTS = ("spark-1", "spark-2", "spark-3-long")
CHANGED = OperationResult("Cluster | Put a file", changed=HOSTS)
FAILED = OperationResult("Cluster | May fail", unchanged=("spark-1", "spark-3-long"), failed=("spark-2",))
OUTPUT = "gb10: CHECKSUM_MISMATCH: k3s is not what the list says"


def connected() -> Iterator[Event]:
    yield StageStarted("connect")
    yield from map(Connected, HOSTS)
    yield StageStarted("prepare")
    yield from map(Ready, HOSTS)
    yield StageStarted("execute")


def run_first() -> list[Event]:
    """Return the events of a successful run."""
    unchanged = OperationResult("Cluster | May fail", unchanged=HOSTS)
    only_head = OperationResult("Cluster | Only head", changed=("spark-1",))
    steps = [
        event for one in (CHANGED, unchanged, only_head) for event in (OperationStarted(one.name), OperationEnded(one))
    ]
    return [*connected(), *steps, StageStarted("disconnect")]


def run_failed() -> list[Event]:
    """Return the events of a run in which an operation fails on a host."""
    failed = HostFailed("spark-2", (Failure("CHECKSUM_MISMATCH", "spark-2", "no"),), (OUTPUT,))
    said = [Logged("hello", "spark-1"), Logged("--> Beginning operation run...")]
    return [*connected(), OperationStarted(FAILED.name), *said, failed, OperationEnded(FAILED), Aborted(None)]


def shown(events: list[Event], capsys: pytest.CaptureFixture[str], verbosity: int = 0) -> list[str]:
    with console.progress("Bootstrap", HOSTS, verbosity) as on_event:
        for event in events:
            on_event(event)
    return [re.sub(r"  \d+\.\d s$", "", line) for line in capsys.readouterr().err.splitlines()]


def test_every_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(run_first(), capsys) == [
        "Bootstrap: spark-1, spark-2, spark-3-long",
        "       ok  Connect (spark-1 ok, spark-2 ok, spark-3-long ok)",
        "       ok  Look at the nodes (spark-1 ok, spark-2 ok, spark-3-long ok)",
        "  changed  Put a file (spark-1 changed, spark-2 changed, spark-3-long changed)",
        "unchanged  May fail (spark-1 unchanged, spark-2 unchanged, spark-3-long unchanged)",
        "  changed  Only head (spark-1 changed)",
    ]


def test_a_failure_shows_the_output_of_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(run_failed(), capsys)
    assert lines[-2:] == [
        f"           spark-2: {OUTPUT}",
        "   failed  May fail (spark-1 unchanged, spark-2 failed, spark-3-long unchanged)",
    ]


def test_verbose_progress_shows_the_output_of_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    assert "           spark-1: hello" not in shown(run_failed(), capsys)
    assert "           spark-1: hello" in shown(run_failed(), capsys, verbosity=1)


def test_a_terminal_cuts_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    monkeypatch.setattr(console, "stderr", terminal)
    with console.progress("Bootstrap", HOSTS) as on_event:
        for event in run_first():
            on_event(event)
    assert isinstance(terminal.file, io.StringIO)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.file.getvalue())
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in plain.split("\n")]
    assert any("✓" in line and "spark-3-long ✓" in line for line in lines)
    assert all(len(line) <= 60 for line in lines)


def test_a_plan_lists_changes_and_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    result = RunResult(
        target="gb10.deploys.cluster",
        dry=True,
        hosts=("spark-1", "spark-2"),
        operations=(
            OperationResult("Check"),
            OperationResult("Write config.yaml", changed=("spark-1", "spark-2")),
            OperationResult("Restart", conditional=("spark-1",)),
        ),
        foreseen=(Gb10Error("PORT_TAKEN", "nginx listens on port 6443", host="spark-1", ssh_base="ssh spark-1"),),
        diff=("[spark-1] Will modify /etc/x", "  - one", "  + two"),
    )
    console.print_result(result, diff=True)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == ["[spark-1] Will modify /etc/x", "  - one", "  + two"]
    assert re.match(r"Write config.yaml +spark-1, spark-2$", lines[4])
    assert re.match(r"Restart +spark-1$", lines[5])
    assert lines[6] == "2 of 3 operations would change something; nothing was changed."
    assert lines[7] == "! would be refused: spark-1: nginx listens on port 6443  PORT_TAKEN"
    assert lines[8].startswith("  → See which program listens on it: ssh spark-1 sudo ss -ltnp.")


def test_markup_in_output_of_nodes_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error(Gb10Error("OPERATION_FAILED", "it said [bold]x[/bold] and [/nothing]", host="spark-1"))
    assert "spark-1: it said [bold]x[/bold] and [/nothing]" in capsys.readouterr().err


def test_the_cause_is_printed_first(capsys: pytest.CaptureFixture[str]) -> None:
    errors = (Gb10Error("OPERATION_FAILED", "later", host="a"), Gb10Error("DISK_FULL", "no room", host="b"))
    console.print_result(RunResult("x", dry=False, hosts=("a", "b"), errors=errors))
    printed = capsys.readouterr().err
    assert printed.index("no room") < printed.index("later")
