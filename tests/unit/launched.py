"""Launches, run on this machine."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gb10.facts.reading.launcher import Launch, run_script
from gb10.operations.kit.scripts import script


@dataclass(frozen=True)
class Launched:
    """How a launch ended."""

    status: int
    answer: Any  # None if there is none
    refusal: tuple[str, str] | None
    others: str  # what else it printed, on either output

    @property
    def code(self) -> str | None:
        """The code of its refusal."""
        return self.refusal[0] if self.refusal else None


def launched(launch: Launch, tools: Path | None = None, before: tuple[str, ...] = ()) -> Launched:
    """Run a launch, with the tools of a folder before all others.

    + before: words of a command that runs it
    """
    line = launch.line.replace("PATH=", f"PATH={tools}:") if tools else launch.line
    done = subprocess.run(
        [*before, "sh", "-c", line], input=launch.text, capture_output=True, text=True, check=False, errors="replace"
    )
    answer = launch.answer()
    for said in f"{done.stdout}\n{done.stderr}".split("\n"):
        answer.hear(said)
    return Launched(done.returncode, answer.value, answer.refusal, "\n".join(answer.others))


def shell_program(name: str, *arguments: str, seconds: int = 60, **options: Any) -> Launch:
    """The launch of a script of programs/shell."""
    return run_script(script(name), *arguments, seconds=seconds, **options)
