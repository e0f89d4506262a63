"""The built wheel, installed as users install it: the pyinfra CLI, imports by another project, and the gb10 command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.lab.product import CHECKOUT, Product

HEAD, WORKER = "spark-1", "spark-2"

DEPLOY = """\
from gb10.deploys import k3s_agent, k3s_server

k3s_server()
k3s_agent()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy of all tracked and new files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((CHECKOUT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new virtual environment with the wheel, not in editable mode."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "-q", str(wheel)], check=True)
    return folder / "bin"


@pytest.fixture
def project(product: Product, tmp_path: Path) -> Path:
    """Another pyinfra project for the lab's nodes, in its own folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "deploy.py").write_text(DEPLOY)
    (folder / "inventory.py").write_text(product.inventory.read_text())
    return folder


def run(environment: Path, project: Path, product: Product, program: str, *arguments: str) -> Any:
    done = subprocess.run(
        [str(environment / program), *arguments],
        cwd=project,
        env={**os.environ, **product.environment, "GB10_INVENTORY": "inventory.py"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_template_script_and_type_marker(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"gb10/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "templates").rglob("*.[js]*") if path.is_file()
    }
    assert wanted <= inside
    for package in ("cli", "controller", "deploys", "facts", "group_data", "lab", "operations", "templates"):
        assert f"gb10/{package}/py.typed" in inside


def test_another_projects_deploy_runs_in_order(
    product: Product, environment: Path, project: Path, fresh_nodes: Any
) -> None:
    dry = json.loads(run(environment, project, product, "pyinfra", "--json", "--dry", "inventory.py", "deploy.py"))[
        "plan"
    ]
    for operation in dry:
        assert len(operation["names"]) == 1, operation
        hosts = {*operation["hosts_with_change"], *operation["hosts_with_conditional_change"]}
        deploy = operation["name"].split(" | ")[0]
        assert hosts <= {"K3s server": {HEAD}, "K3s agent": {WORKER}}[deploy], operation
    done = json.loads(run(environment, project, product, "pyinfra", "--json", "-y", "inventory.py", "deploy.py"))
    changed = [
        (operation["name"], operation["success"]) for operation in done["results"]["operations"] if operation["success"]
    ]
    assert changed == [
        (operation["name"], operation["hosts_with_change"]) for operation in dry if operation["hosts_with_change"]
    ]
    names = [name for name, _ in changed]
    assert names.index("K3s server | Run the K3s server") < names.index("K3s agent | Keep the join token")


def test_the_pyinfra_cli_runs_a_deploy_by_name(
    product: Product, environment: Path, project: Path, fresh_nodes: Any
) -> None:
    target = ("inventory.py", "gb10.deploys.k3s_server")
    plan = json.loads(run(environment, project, product, "pyinfra", "--json", "--dry", "--diff", *target))["plan"]
    assert {host for operation in plan for host in operation["hosts_with_change"]} == {HEAD}
    run(environment, project, product, "pyinfra", "-y", *target, "runtime=containerd")
    facts = run(environment, project, product, "pyinfra", "--json", "inventory.py", "fact", "gb10.facts.k3s.K3sInstall")
    (install,) = json.loads(facts).values()
    assert (install[HEAD]["role"], install[HEAD]["unit_state"], install[WORKER]) == ("server", "active", None)
    text = run(environment, project, product, "pyinfra", "inventory.py", "fact", "gb10.facts.k3s.K3sToken")
    assert "K10" not in text


def test_the_gb10_command_does_the_same(product: Product, environment: Path, project: Path, fresh_nodes: Any) -> None:
    assert "healthy" in run(environment, project, product, "gb10", "bootstrap")
    status = json.loads(run(environment, project, product, "gb10", "status", "--json"))
    assert status["healthy"] is True


def test_the_wheel_has_types(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "deploy.py").write_text(DEPLOY + "reveal_type(k3s_server)\nk3s_server(name=1)\n")
    python = str(environment / "python")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "deploy.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PyinfraOperation" in done.stdout
    assert 'Argument "name" to "__call__"' in done.stdout
