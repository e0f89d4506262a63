"""A misspelt setting or argument ends a run of pyinfra before anything happens, in our project and in others'."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = """
from pathlib import Path
from gb10.deploys import prune_images
{call}
Path("prepared").touch()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pyinfra(folder: Path, data: str, *words: str) -> str:
    """What pyinfra prints of a run that does not begin."""
    (folder / "inventory.py").write_text(f'head = [\n    ("@local", {{\n        {data}\n    }}),\n]\n')
    command = [sys.executable, "-m", "pyinfra", "inventory.py", *words, "--dry"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert not (folder / "pyinfra-debug.log").exists(), "an internal error"
    return " ".join((done.stdout + done.stderr).split())


def test_a_misspelt_setting_ends_a_run_of_a_deploy(folder: Path) -> None:
    said = pyinfra(folder, '"k3s_versoin": "v1",', "gb10.deploys.prune_images")
    assert "gb10: SETTINGS_INVALID: @local: k3s_versoin is no setting: did you mean k3s_version?" in said
    assert "(inventory.py, line 3)" in said


def test_a_misspelt_setting_ends_a_run_of_somebody_elses_project(folder: Path) -> None:
    (folder / "deploy.py").write_text(DEPLOY.format(call='prune_images(name="x")'))
    said = pyinfra(folder, '"my_role": "web", "ssh_usr": "nvidia",', "deploy.py")
    assert "gb10: SETTINGS_INVALID: @local: ssh_usr is no setting: did you mean ssh_user?" in said
    assert "my_role" not in said
    assert not (folder / "prepared").exists()


def test_a_misspelt_argument_ends_the_run(folder: Path) -> None:
    said = pyinfra(folder, "", "gb10.deploys.k3s_server", "versoin=v1.36.4+k3s1")
    assert "gb10: SETTINGS_INVALID: k3s_server has no argument 'versoin': did you mean version?" in said


def test_a_misspelt_argument_of_a_deploy_without_settings_ends_the_run(folder: Path) -> None:
    said = pyinfra(folder, "", "gb10.deploys.restore", "bakcup=latest")
    assert "gb10: SETTINGS_INVALID: restore has no argument 'bakcup': did you mean backup?" in said
