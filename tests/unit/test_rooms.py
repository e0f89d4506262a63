"""Each room holds one kind of thing, and no class is too large."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api import FactBase

ROOT = Path(__file__).parents[2]
ROOMS = ("cli", "controller", "deploys", "facts", "group_data", "operations", "programs", "templates")
NODE_PYTHON = (3, 10)  # of Ubuntu 22.04
MOST_LINES, MOST_ATTRIBUTES = 200, 10


def files_in(room: str) -> list[Path]:
    """Return the Python files directly in a room, without __init__.py."""
    return [path for path in sorted((ROOT / room).glob("*.py")) if path.name != "__init__.py"]


def product() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def decorators(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the last part of each decorator's name: "command" for @sync.command("x")."""
    for one in function.decorator_list:
        called = one.func if isinstance(one, ast.Call) else one
        yield called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def decorated(path: Path, *wanted: str) -> bool:
    """Return True if a file defines a function with one of these decorators."""
    functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    return any(name in wanted for function in functions for name in decorators(function))


@pytest.mark.parametrize("path", files_in("operations"), ids=named)
def test_every_file_of_operations_defines_an_operation(path: Path) -> None:
    assert decorated(path, "operation")


@pytest.mark.parametrize("path", files_in("deploys"), ids=named)
def test_every_file_of_deploys_defines_a_deploy(path: Path) -> None:
    assert decorated(path, "deploy")


@pytest.mark.parametrize("path", files_in("facts"), ids=named)
def test_every_file_of_facts_defines_a_fact(path: Path) -> None:
    module = __import__(f"gb10.facts.{path.stem}", fromlist=["facts"])
    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    assert any(issubclass(one, FactBase) for one in own)


@pytest.mark.parametrize("path", [path for path in files_in("cli") if path.name != "app.py"], ids=named)
def test_every_file_of_cli_defines_a_command(path: Path) -> None:
    assert decorated(path, "command", "group")


@pytest.mark.parametrize("path", sorted((ROOT / "programs").rglob("*.py")), ids=named)
def test_every_program_has_the_syntax_of_a_nodes_python(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=NODE_PYTHON)


def attributes(tree: ast.ClassDef) -> set[str]:
    """Return the attributes that a class declares or sets in its methods, without those of its bases."""
    own = {
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and "ClassVar" not in ast.unparse(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            own.add(node.attr)
    return own


def too_large() -> set[str]:
    found = set()
    for path in product():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES or len(attributes(node)) > MOST_ATTRIBUTES:
                    found.add(f"{named(path)}:{node.name}")
    return found


def test_no_class_is_too_large() -> None:
    assert too_large() == set()
