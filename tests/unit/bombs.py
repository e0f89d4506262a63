"""Runs code of ours on hostile input, with little memory and time."""

from __future__ import annotations

import subprocess
import sys

MEMORY_BYTES = 400 << 20


def bounded(code: str, *arguments: str, memory_bytes: int = MEMORY_BYTES, seconds: int = 60) -> str:
    """Run Python code with arguments in a child with limited memory; return what it prints, with its errors."""
    limit = f"import resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({memory_bytes},) * 2)\n"
    command = [sys.executable, "-c", limit + code, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False
    )
    return done.stdout
