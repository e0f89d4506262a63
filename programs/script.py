"""Run a shell script that is sent as text: no list of processes shows it, and it refuses with an error code."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from gb10.programs.answer import Outlet, RefusedError

SHELL = "/bin/sh"
REASON_BYTES = 1 << 16


def main(job: dict[str, Any], outlet: Outlet) -> str:
    """Run job["text"] with job["arguments"] and job["variables"], name -> value. Return its output.

    Its time limit is job["seconds"]. With job["outlives"] it goes on when the connection is lost.

    Raise RefusedError if the script calls `refuse CODE REASON`, SystemExit if it fails otherwise.
    """
    refusal = os.memfd_create("refusal", 0)
    script = os.memfd_create("script", 0)
    lines = [
        f"exec 3>/proc/self/fd/{refusal}",
        """refuse() { printf '%s %s' "$1" "$2" >&3; exit 1; }""",
        *(f"{name}={quoted(value)}" for name, value in job["variables"].items()),
        job["text"],
    ]
    # The time limit of this program does not reach a session of its own.
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
    with open(refusal, "rb") as file:
        file.seek(0)
        code, _, reason = file.read(REASON_BYTES).decode(errors="replace").partition(" ")
    if code:
        raise RefusedError(code, reason)
    if done.returncode:
        os.write(2, done.stdout)
        raise SystemExit(done.returncode)
    return done.stdout.decode(errors="replace")


def quoted(text: str) -> str:
    """Quote a text as one word of the shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
