"""Programs of ours that run on nodes: as text, by the node's own python3.

Text and job travel on standard input, so that neither shows in a list of processes or in the log: a job may hold a
secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString

RUN = (
    "import json,sys;job=json.load(sys.stdin);names={'__name__':'gb10'};"
    "exec(compile(job['program'],'gb10','exec'),names);names[job.pop('function')](job)"
)


def program_text(package: str, name: str) -> str:
    """Given a package of ours and a file in it, return its text."""
    return (files(package) / name).read_text()


def run_program(text: str, function: str, job: Mapping[str, Any], seconds: int) -> StringCommand:
    """Return the command that calls a function of a program with its job, for at most so many seconds.

    The job also gets the text, as "program".
    """
    document = json.dumps({**job, "program": text, "function": function})
    return StringCommand(f"timeout --kill-after=15 {seconds} python3 -c", QuoteString(RUN), _stdin=document)
