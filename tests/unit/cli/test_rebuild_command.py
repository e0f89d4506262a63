"""gb10 rebuild and gb10 wipe-all as a user types them, while no node answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gb10.controller.errors import ExitStatus
from gb10.controller.inventory import load_inventory
from gb10.controller.journal import Journal, journals
from gb10.controller.rebuild.observation import OldIdentity
from gb10.controller.rebuild.runs import begin
from gb10.controller.rebuild.snapshot import Snapshot
from tests.unit.pyinfra_project import Project

GB10 = str(Path(sys.executable).with_name("gb10"))
BEFORE = OldIdentity("0" * 32, "1", {"enP7s7": "4c:bb:47:01:02:03"})


def gb10(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run gb10 with pipes, as a script does."""
    return subprocess.run([GB10, *arguments], input="", capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(autouse=True)
def down(project: Project) -> Project:
    """A cluster in which no node answers."""
    project.inventory(spark_1={"ssh_port": 1}, spark_2={"ssh_port": 1})
    return project


def asked_to_wipe(node: str, kind: str = "rebuild") -> Journal:
    """Return the journal of a run that has asked for the wipe of a node."""
    journal = begin(load_inventory("inventory.py"), [node], kind)
    memory = Snapshot(identity=BEFORE, k3s=None, cordoned=False, own_device=True)
    journal.write("remembered", node=node, memory=memory.to_json())
    journal.write("wipe-asked", node=node, instructions=[])
    return journal


def test_silent_nodes_do_not_count_as_unlocked() -> None:
    status = gb10("rebuild", "status")
    assert status.returncode == 0
    assert status.stdout.count("Nobody can tell who holds spark-") == 2
    unlocked = gb10("rebuild", "unlock", "spark-2", "--yes")
    assert unlocked.returncode == ExitStatus.UNREACHABLE
    assert "NODE_UNREACHABLE" in unlocked.stderr
    assert "No node is locked" not in unlocked.stdout + unlocked.stderr


def test_plan_works_while_the_node_is_away() -> None:
    asked_to_wipe("spark-2")
    shown = gb10("rebuild", "plan", "spark-2", "--json")
    assert shown.returncode == 0, shown.stderr
    (plan,) = json.loads(shown.stdout)["plan"]
    assert plan["gate"] == []
    assert [step["name"] for step in plan["steps"]][:2] == ["wipe", "settle"]


@pytest.mark.parametrize(
    "command", [["rebuild", "run", "spark-2"], ["rebuild", "resume"], ["wipe-all", "--names", "spark-1,spark-2"]]
)
def test_an_unwritable_events_file_is_refused_first(project: Project, command: list[str]) -> None:
    found = gb10(*command, "--events", "no/such/folder/events")
    assert found.returncode == ExitStatus.USAGE
    assert "--events no/such/folder/events: No such file or directory" in found.stderr
    assert not journals()


def test_status_and_history_show_a_full_wipe() -> None:
    journal = asked_to_wipe("spark-2", "wipe-all")
    journal.write("sighted", node="spark-2", kind="no-login", text="a new system answers", lines=["mkdir .ssh"])
    journal.write("keeper", node="spark-2", keeper="spark-1", well=False, text="spark-1 is not well")
    status = gb10("rebuild", "status", "-i", "inventory.py")
    assert "go on: gb10 wipe-all -i inventory.py" in status.stdout
    assert "a new system answers\n    mkdir .ssh\n  spark-1 is not well" in status.stdout
    (run,) = json.loads(gb10("rebuild", "history", "--json").stdout)["runs"]
    assert (run["name"], run["kind"], run["sighted"]["kind"]) == (journal.run, "wipe-all", "no-login")


def test_history_says_if_there_is_none() -> None:
    assert "No node was rebuilt from here yet" in gb10("rebuild", "history").stderr


def test_a_full_wipe_is_refused_during_a_rebuild() -> None:
    asked_to_wipe("spark-2")
    found = gb10("wipe-all", "--names", "spark-1,spark-2")
    assert found.returncode == ExitStatus.REFUSED
    assert "Continue it: gb10 rebuild resume. Or give it up: gb10 rebuild abort" in " ".join(found.stderr.split())
