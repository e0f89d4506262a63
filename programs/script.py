"""A shell script that travels as text: no list of processes shows it, and it says by a code why it refuses."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from gb10.programs.answer import Outlet, RefusedError

SHELL = "/bin/sh"
REASON_BYTES = 1 << 16


def main(job: dict[str, Any], outlet: Outlet) -> str:
    """Run job["text"] with job["arguments"] and with job["variables"], name -> value, set; return its output.

    It may take job["seconds"]. With job["outlives"] it goes on when the connection is lost.

    Raise RefusedError for a script that called `refuse CODE REASON`, SystemExit for one that failed otherwise.
    """
    refusal = os.memfd_create("refusal", 0)
    script = os.memfd_create("script", 0)
    lines = [
        f"exec 3>/proc/self/fd/{refusal}",
        """refuse() { printf '%s %s' "$1" "$2" >&3; exit 1; }""",
        *(f"{name}={quoted(value)}" for name, value in job["variables"].items()),
        job["text"],
    ]
    # What is in a session of its own is beyond the limit of this program.
    limit = ["timeout", str(job["seconds"])] if job["outlives"] else []
    with open(script, "wb", closefd=False) as file:
        file.write("\n".join(lines).encode(errors="surrogateescape"))
    done = subprocess.run(
        [*limit, SHELL, f"/proc/self/fd/{script}", *job["arguments"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[script, refusal],
        start_new_session=job["outlives"],
        check=False,
    )
    with open(refusal, "rb") as said:
        said.seek(0)
        code, _, reason = said.read(REASON_BYTES).decode(errors="replace").partition(" ")
    if code:
        raise RefusedError(code, reason)
    if done.returncode:
        os.write(2, done.stdout)
        raise SystemExit(done.returncode)
    return done.stdout.decode(errors="replace")


def quoted(text: str) -> str:
    """Return a text as one word of the shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
