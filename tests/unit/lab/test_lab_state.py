"""A lab's state survives in a file. Errors about a lab that is not up name the next command."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyinfra.api.exceptions import PyinfraError

from gb10.cli.lab import lab as command
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import load_inventory
from gb10.lab import state as states
from gb10.lab.hosts import groups
from gb10.lab.paths import lab_name, lab_names
from gb10.lab.problem import LabError
from gb10.lab.releases import publish
from gb10.lab.state import LabState

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GB10_LAB", "mine")


def a_lab(name: str = "mine") -> LabState:
    state = LabState(name, 3, "unix:///engine.sock", numbers=[1, 2, 3], mirror_control="http://127.0.0.1:9")
    state.save()
    return state


def test_a_lab_is_read_back_as_written() -> None:
    state = a_lab()
    assert states.load("mine") == state
    assert states.all_labs() == [state]
    assert lab_names() == {"mine"}


def test_a_forgotten_lab_is_not_up() -> None:
    a_lab()
    states.forget("mine")
    assert states.load("mine") is None
    with pytest.raises(LabError, match="gb10 lab up"):
        states.require("mine")


def test_the_error_names_a_damaged_file_and_the_remedy() -> None:
    a_lab()
    (states.lab_folder("mine") / "lab.json").write_text("{")
    with pytest.raises(LabError, match="gb10 lab down"):
        states.load("mine")


def test_the_error_for_an_unknown_node_lists_the_nodes() -> None:
    with pytest.raises(LabError, match="spark-1, spark-2, spark-3"):
        a_lab().node("spark-9")


def test_the_inventory_has_one_head_and_workers() -> None:
    state = a_lab()
    head, workers = groups()
    assert [name for name, _ in head] == ["spark-1"]
    assert [name for name, _ in workers] == ["spark-2", "spark-3"]
    data = workers[0][1]
    assert data["ssh_hostname"] == data["node_ip"] == "198.18.12.12"
    assert data["k3s_mirror"] == f"{state.mirror_url}/k3s"
    assert data["rails"]["b"] == {"interface": "enP2p1s0f0np0", "address": "198.18.14.12"}
    assert data["_sudo"] is True
    assert "k3s_version" not in data


def test_the_inventory_names_the_version_of_a_real_release() -> None:
    state = a_lab()
    state.k3s_release, state.k3s_version = "/releases", "v1.36.9+k3s1"
    state.save()
    head, _ = groups()
    assert head[0][1]["k3s_version"] == "v1.36.9+k3s1"


def test_without_a_lab_its_inventory_names_gb10_lab_up() -> None:
    with pytest.raises(PyinfraError, match=r"^gb10: INVENTORY_BROKEN: .*gb10 lab up"):
        groups()
    with pytest.raises(Gb10Error, match="gb10 lab up") as raised:
        load_inventory(str(CHECKOUT / "lab" / "inventory.py"))
    assert raised.value.code == "INVENTORY_BROKEN"


@pytest.mark.parametrize("name", ["", "UPPER", "../up", "x" * 40, "a b"])
def test_an_invalid_lab_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GB10_LAB", name)
    with pytest.raises(LabError):
        lab_name()


def test_a_folder_without_releases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    with pytest.raises(LabError, match=r"sha256sum-amd64\.txt"):
        publish(tmp_path / "mirror", tmp_path / "releases")


def test_the_command_reports_a_missing_lab_in_two_lines() -> None:
    done = CliRunner().invoke(command, ["status"])
    assert done.exit_code == 1
    assert done.output == "The lab 'mine' is not up.\nBring it up: gb10 lab up\n"


def test_lab_down_removes_labs_of_killed_commands_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    root = tmp_path / "state"
    with subprocess.Popen(["sleep", "0"]) as dead:
        pass
    with subprocess.Popen(["sh", "-c", "sleep 60; :", "scripts/with-labs"], start_new_session=True) as alive:
        try:
            for pid in (dead.pid, alive.pid):
                (root / f"own-{pid}" / "lab" / f"own-{pid}").mkdir(parents=True)
            subprocess.run([CHECKOUT / "scripts" / "lab-down"], check=True, capture_output=True)
            assert [path.name for path in root.glob("own-*")] == [f"own-{alive.pid}"]
            assert (root / f"own-{alive.pid}" / "lab" / f"own-{alive.pid}").is_dir()
        finally:
            os.killpg(alive.pid, signal.SIGKILL)
