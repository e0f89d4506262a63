"""gb10 backup: its progress, and the nodes it asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gb10.cli.screen import console
from gb10.cli.screen.backup_view import BackupView
from gb10.cli.screen.transfer import Bars
from gb10.controller.run.messages import Reported
from gb10.operations.backups.reports import Kept, Transferred
from tests.unit.pyinfra_project import Project

GB10 = str(Path(sys.executable).with_name("gb10"))


def hear(view: BackupView, report: Any) -> None:
    """Send the view a report from spark-2."""
    view.hear(Reported("spark-2", report))


def test_progress_without_a_terminal_takes_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    view = BackupView(Bars(None))
    for done in range(1, 1000):
        hear(view, Transferred("Send b1 to spark-1", done << 20, 1 << 30))
    hear(view, Kept("b1", "spark-1"))
    hear(view, Transferred("Prove b1 on spark-1"))
    assert capsys.readouterr().err.splitlines() == ["  b1: also on spark-1", "  Prove b1 on spark-1 ..."]


def test_a_long_transfer_prints_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gb10.cli.screen.backup_view.LINE_SECONDS", 0)
    fetched = Transferred("Fetch b1 from spark-1", 1 << 20, 1 << 30)
    hear(BackupView(Bars(None)), fetched)
    assert capsys.readouterr().err == "  Fetch b1 from spark-1: 1.0 MiB of 1.0 GiB so far\n"
    monkeypatch.setattr(console.stderr, "quiet", True)
    hear(BackupView(Bars(None)), fetched)
    assert capsys.readouterr().err == ""


def test_prove_refuses_a_backup_of_an_unknown_node(project: Project) -> None:
    project.inventory(spark_1={"ssh_port": 1}, spark_2={"ssh_port": 1})
    done = subprocess.run(
        [GB10, "backup", "prove", "--from", "spark-9-20261123T201500Z"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "is of no node of the inventory" in done.stderr) == (2, True), done.stderr
