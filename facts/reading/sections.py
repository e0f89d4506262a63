"""Several commands in one round trip: each prints a section of its own, and none can fail the others.

The contract: a section keeps its command's exit status, so that "the tool is absent" (127) and "the tool printed
nothing" never look alike.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pyinfra.api import StringCommand
from pyinfra.api.exceptions import FactProcessError

# Each command runs in a subshell of its own, without standard input, so that nothing it does reaches the next one.
PRINT_SECTION = r"""s() { echo "@@gb10 $1"; (eval "$2") 2>/dev/null </dev/null; printf '\n@@gb10= %s\n' "$?"; };"""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH;"

Fact = TypeVar("Fact")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Section:
    """What one command printed, and its exit status."""

    lines: tuple[str, ...]
    status: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def first(self) -> str | None:
        """The first line, or None where the command failed or printed nothing."""
        return self.lines[0] if self.status == 0 and self.lines else None


def sections(commands: Mapping[str, str]) -> StringCommand:
    """Given shell commands by name, return one POSIX shell command that prints all of them as sections."""
    calls = (f"s {shlex.quote(name)} {shlex.quote(command)}" for name, command in commands.items())
    return StringCommand(PATH, PRINT_SECTION, "; ".join(calls))


def read_sections(output: list[str]) -> dict[str, Section]:
    """Given what `sections` printed, return the sections by name. Raise ValueError for an incomplete print."""
    found: dict[str, Section] = {}
    name: str | None = None
    lines: list[str] = []
    for line in output:
        if line.startswith("@@gb10 "):
            name, lines = line.removeprefix("@@gb10 "), []
        elif line.startswith("@@gb10= ") and name is not None:
            if lines and not lines[-1]:
                lines.pop()  # the newline that was printed before the mark
            found[name] = Section(tuple(lines), int(line.removeprefix("@@gb10= ")))
            name = None
        elif name is not None:
            lines.append(line)
    if name is not None:
        raise ValueError(f"the output ends within section {name}")
    return found


def read_answer(answer: Mapping[str, Any]) -> dict[str, Section]:
    """Given the answer of programs/sections.py, return the sections by name. Raise ValueError for anything else."""
    return {name: Section(tuple(text.splitlines()), int(status)) for name, (status, text) in answer.items()}


def understood(process: Callable[[Fact, list[str]], Value]) -> Callable[[Fact, list[str]], Value]:
    """Turn what a fact's `process` raises into FactProcessError: it fails one host, all else aborts the run."""

    @functools.wraps(process)
    def wrapped(fact: Fact, output: list[str]) -> Value:
        try:
            return process(fact, output)
        except FactProcessError:
            raise
        except Exception as error:
            raise FactProcessError(
                f"{type(fact).__name__} does not understand what the node printed: {error!r}"
            ) from error

    return wrapped
