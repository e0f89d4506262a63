"""Run launches of node programs on this machine."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gb10.facts.reading.launcher import Launch, run_script
from gb10.operations.kit.scripts import script


@dataclass(frozen=True)
class Launched:
    """The result of a launch."""

    status: int
    answer: Any  # None if there is none
    refusal: tuple[str, str] | None
    others: str  # other lines, of standard output and error

    @property
    def code(self) -> str | None:
        """Return the error code of the refusal, or None."""
        return self.refusal[0] if self.refusal else None


def launched(launch: Launch, tools: Path | None = None, before: tuple[str, ...] = ()) -> Launched:
    """Run a launch and return its result.

    + tools: folder to put first in PATH
    + before: start of the command line, for example ("env", "A=1")
    """
    line = launch.line.replace("PATH=", f"PATH={tools}:") if tools else launch.line
    done = subprocess.run(
        [*before, "sh", "-c", line], input=launch.text, capture_output=True, text=True, check=False, errors="replace"
    )
    answer = launch.answer()
    for printed in f"{done.stdout}\n{done.stderr}".split("\n"):
        answer.read_line(printed)
    return Launched(done.returncode, answer.value, answer.refusal, "\n".join(answer.others))


def shell_program(name: str, *arguments: str, seconds: int = 60, **options: Any) -> Launch:
    """Return the launch of a script in programs/shell."""
    return run_script(script(name), *arguments, seconds=seconds, **options)
