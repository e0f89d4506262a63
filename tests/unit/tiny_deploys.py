"""Small, quick deploys and facts that fail in every way that real ones do: the file tiny.py of a test project."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra.api import FactBase, FunctionCommand, StringCommand, deploy, operation
from pyinfra.api.command import QuoteString
from pyinfra.api.exceptions import FactProcessError
from pyinfra.context import host
from pyinfra.facts.files import File

from gb10.facts.reading.launcher import Launch, ProgramFact, equip, run_script
from gb10.operations.file import show_diff
from gb10.operations.kit import operation as kit


@operation()
def marker(path: str) -> Generator[StringCommand, None, None]:
    if host.get_fact(File, path=path) is None:
        yield StringCommand("mkdir -p $(dirname", path, "); touch", path)


@operation(is_idempotent=False)
def shell(command: str, on: str = "") -> Generator[StringCommand, None, None]:
    if on in ("", host.name):
        yield StringCommand(command)


@operation(is_idempotent=False)
def script(text: str, on: str = "") -> Generator[StringCommand, None, None]:
    if on in ("", host.name):
        equip(host)
        yield run_script(text, seconds=20)


@operation()
def rewritten(path: str, old: str, new: str) -> Generator[StringCommand, None, None]:
    show_diff(path, old, new)
    yield StringCommand("touch", path)


@operation()
def raising(text: str) -> Generator[FunctionCommand, None, None]:
    def callback(state: Any, host: Any) -> None:
        raise RuntimeError(text)

    yield FunctionCommand(callback, (), {})


@deploy("Tiny")
def cluster(folder: str, run: str = "", on: str = "none", sudo: bool = False, run_script: str = "") -> None:
    marker(name="Write a mark", path=f"{folder}/{host.name}/mark", _sudo=sudo)
    if run_script:
        script(name="Run a command", text=run_script, on=on)
    else:
        shell(name="Run a command", command=run or "true", on=on)
    marker(name="Write another mark", path=f"{folder}/{host.name}/another")


@deploy("Tolerant")
def tolerant(run_script: str) -> None:
    script(name="Run a command", text=run_script, _ignore_errors=True)


@operation()
def refusing(code: str, text: str) -> Generator[FunctionCommand, None, None]:
    yield from kit.refuse(code, text)


@deploy("Refusing in a callback")
def refuse_in_callback(text: str, code: str = "TOKEN_REJECTED") -> None:
    refusing(name="Refuse", code=code, text=text)


@deploy("Trying again")
def tried_again(run_script: str) -> None:
    script(name="Run a command", text=run_script, _retries=1, _retry_delay=0)


@deploy("Raising")
def raise_in_callback(text: str) -> None:
    raising(name="Raise", text=text)


@deploy("Refusing")
def refuse() -> None:
    raise kit.RefusedDeploy("SETTINGS_INVALID", "k3s_version is not a version")


@deploy("Crashing")
def crash() -> None:
    raise ZeroDivisionError("a bug")


@deploy("Greedy")
def greedy() -> None:
    bytearray(9 << 30)


@deploy("Empty")
def nothing() -> None:
    if host.name == "spark-1":
        shell(name="Only on the first", command="true")


class Fine(FactBase[dict[str, list[str]]]):
    def command(self) -> str:
        return "echo word"

    def process(self, output: list[str]) -> dict[str, list[str]]:
        return {"said": output}


class Quick(Fine):
    """Another fact like it."""


class Said(FactBase[dict[str, list[str]]]):
    def command(self, text: str) -> StringCommand:
        return StringCommand("printf", QuoteString(text))

    def process(self, output: list[str]) -> dict[str, list[str]]:
        return {"said": output}


class Slow(FactBase[None]):
    def command(self) -> str:
        return "sleep 60"


class SlowOnFirst(Fine):
    def command(self) -> str:
        return "sleep 60" if host.name == "spark-1" else "echo word"


class ManyLines(FactBase[None]):
    def command(self) -> str:
        return "yes"


class LongLine(FactBase[None]):
    def command(self) -> str:
        return "head -c 500000000 /dev/zero"


class Absent(FactBase[None]):
    def command(self) -> str:
        return "true"


class Failing(ProgramFact[None]):
    def command(self) -> Launch:
        return run_script("refuse K3S_ABSENT 'there is none'", seconds=20)


class Unreadable(FactBase[None]):
    def command(self) -> str:
        return "echo word"

    def process(self, output: list[str]) -> None:
        raise FactProcessError(f"not understood: {output}")
