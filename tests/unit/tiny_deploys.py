"""Deploys and facts that are small and quick, and fail in every way that real ones do: tiny.py of a project."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra.api import FactBase, FunctionCommand, OperationError, StringCommand, deploy, operation
from pyinfra.api.exceptions import FactProcessError
from pyinfra.context import host
from pyinfra.facts.files import File


@operation()
def marker(path: str) -> Generator[StringCommand, None, None]:
    if host.get_fact(File, path=path) is None:
        yield StringCommand("mkdir -p $(dirname", path, "); touch", path)


@operation(is_idempotent=False)
def shell(command: str, on: str = "") -> Generator[StringCommand, None, None]:
    if on in ("", host.name):
        yield StringCommand(command)


@operation()
def raising(text: str) -> Generator[FunctionCommand, None, None]:
    def callback(state: Any, host: Any) -> None:
        raise RuntimeError(text)

    yield FunctionCommand(callback, (), {})


@deploy("Tiny")
def cluster(folder: str, run: str = "true", on: str = "none", sudo: bool = False) -> None:
    marker(name="Write a mark", path=f"{folder}/{host.name}/mark", _sudo=sudo)
    shell(name="Run a command", command=run, on=on)
    marker(name="Write another mark", path=f"{folder}/{host.name}/another")


@deploy("Tolerant")
def tolerant(run: str) -> None:
    shell(name="Run a command", command=run, _ignore_errors=True)


@deploy("Raising")
def raise_in_callback(text: str) -> None:
    raising(name="Raise", text=text)


@deploy("Refusing")
def refuse() -> None:
    raise OperationError("gb10: SETTINGS_INVALID: k3s_version is not a version")


@deploy("Crashing")
def crash() -> None:
    raise ZeroDivisionError("a bug")


@deploy("Empty")
def nothing() -> None:
    if host.name == "spark-1":
        shell(name="Only on the first", command="true")


class Fine(FactBase[dict[str, list[str]]]):
    def command(self) -> str:
        return "echo word"

    def process(self, output: list[str]) -> dict[str, list[str]]:
        return {"said": output}


class Absent(FactBase[None]):
    def command(self) -> str:
        return "true"


class Failing(FactBase[None]):
    def command(self) -> str:
        return "echo 'gb10: K3S_ABSENT: there is none' >&2; exit 3"


class Unreadable(FactBase[None]):
    def command(self) -> str:
        return "echo word"

    def process(self, output: list[str]) -> None:
        raise FactProcessError(f"not understood: {output}")
