"""gb10 backup: what it shows of a long way, and whom it asks."""

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


def heard(view: BackupView, report: Any) -> None:
    """Have the view hear what a run on spark-2 reports."""
    view.hear(Reported("spark-2", report))


def test_without_a_terminal_what_takes_long_is_told_in_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    view = BackupView(Bars(None))
    for done in range(1, 1000):
        heard(view, Transferred("Send b1 to spark-1", done << 20, 1 << 30))
    heard(view, Kept("b1", "spark-1"))
    heard(view, Transferred("Prove b1 on spark-1"))
    assert capsys.readouterr().err.splitlines() == ["  b1: also on spark-1", "  Prove b1 on spark-1 ..."]


def test_a_long_transfer_is_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gb10.cli.screen.backup_view.LINE_SECONDS", 0)
    fetched = Transferred("Fetch b1 from spark-1", 1 << 20, 1 << 30)
    heard(BackupView(Bars(None)), fetched)
    assert capsys.readouterr().err == "  Fetch b1 from spark-1: 1.0 MiB of 1.0 GiB so far\n"
    monkeypatch.setattr(console.stderr, "quiet", True)
    heard(BackupView(Bars(None)), fetched)
    assert capsys.readouterr().err == ""


def test_a_backup_of_no_node_of_the_inventory_is_not_looked_for_on_all_of_them(project: Project) -> None:
    project.inventory(spark_1={"ssh_port": 1}, spark_2={"ssh_port": 1})
    done = subprocess.run(
        [GB10, "backup", "prove", "--from", "spark-9-20261123T201500Z"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "is of no node of the inventory" in done.stderr) == (2, True), done.stderr
