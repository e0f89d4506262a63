"""Everything that the status needs of a node: the sections of each part, and helm's releases on the head."""

from __future__ import annotations

import os
from typing import Any

from gb10.programs import connectx7, sections
from gb10.programs.answer import Outlet
from gb10.programs.helm_storage import releases


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Return part -> answer, of job["parts"] and, if the file job["server"] exists, of job["cluster"].

    Both are part -> job of programs/sections.py. The part "connectx7" also gets the sections of /sys. The part
    "releases" has one command, which prints helm's Secrets; its answer is the releases in them.
    """
    wanted = {**(job["cluster"] if os.path.exists(job["server"]) else {}), **job["parts"]}
    commands = [(part, name, text) for part, one in wanted.items() for name, text in one["commands"].items()]
    outputs = sections.run(text for _, _, text in commands)
    answers: dict[str, Any] = {part: sections.read_all(one["files"]) for part, one in wanted.items()}
    for (part, name, _), output in zip(commands, outputs, strict=True):
        answers[part][name] = output
    answers["connectx7"].update(connectx7.sysfs())
    if "releases" in answers:
        (printed,) = answers["releases"].values()
        answers["releases"] = releases(printed, [])
    return answers
