"""What each room imports, and what setup.cfg declares."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
OPTIONS = SETUP["options"]
ROOMS = re.findall(r"= (\w+)", OPTIONS["package_dir"])
# Packages that only some programs find where they run: in the serving container, and on nodes with netplan.
PROVIDED = {"programs/all_reduce.py": {"torch"}, "programs/netplan_probe.py": {"yaml"}}
# Modules that only the pyinfra process loads.
PYINFRA_PROCESS = {f"gb10.controller.run.{name}" for name in ("connections", "process", "requests", "watching")}
# Distribution -> its packages, if the names differ.
PACKAGES = {"pyyaml": {"yaml"}, "pyinfra": {"pyinfra", "pyinfra_cli"}}


def imported(path: Path) -> set[str]:
    """Return what a file imports besides the standard library: {"gb10.facts", "click"}."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path} has a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    short = {re.sub(r"^(gb10\.\w+|\w+).*", r"\1", name) for name in names}
    return short - sys.stdlib_module_names - PROVIDED.get(str(path.relative_to(ROOT)), set())


def imported_by(room: str) -> set[str]:
    """Return what the files of a room import from outside it."""
    return {name for path in (ROOT / room).rglob("*.py") for name in imported(path)} - {f"gb10.{room}"}


@pytest.mark.parametrize(
    ("room", "allowed"), [("programs", set()), ("group_data", {"pydantic"}), ("templates", {"jinja2", "yaml"})]
)
def test_the_lowest_rooms_import_little(room: str, allowed: set[str]) -> None:
    assert imported_by(room) <= allowed


def test_imports_and_declared_dependencies_are_the_same() -> None:
    declared = re.findall(r"^\w+", OPTIONS["install_requires"], re.MULTILINE)
    foreign = {name for room in ROOMS for name in imported_by(room) if not name.startswith("gb10.")}
    assert foreign <= set().union(*(PACKAGES.get(name, {name}) for name in declared))
    assert [name for name in declared if not PACKAGES.get(name, {name}) & foreign] == []


def test_the_process_of_the_command_loads_no_pyinfra() -> None:
    """Import everything except the modules of the pyinfra process in a new interpreter."""
    paths = [path.relative_to(ROOT) for room in ("cli", "controller") for path in (ROOT / room).rglob("*.py")]
    modules = {"gb10." + ".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    script = f"import sys, {', '.join(sorted(modules - PYINFRA_PROCESS))}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {*PYINFRA_PROCESS, "gevent", "pyinfra", "pyinfra_cli"} == set()


def test_every_package_is_published() -> None:
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    assert {f"gb10.{'.'.join(folder.parts)}" for folder in folders} == set(OPTIONS["packages"].split())
