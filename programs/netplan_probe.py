"""The merged netplan configuration of some interfaces.

One run of netplan, which takes long to start. All that it prints stays here: there may be secrets of others in it
(Wi-Fi). The system's own Python has PyYAML where netplan is, which needs it. Nothing is written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from gb10.programs.answer import Outlet

FAILURES = ("Command failed", "Error", "Traceback")  # on standard error alone: netplan exits with 0 all the same
PYTHON = "/usr/bin/python3"
TO_JSON = "import json,sys,yaml;json.dump(yaml.safe_load(sys.stdin),sys.stdout,default=str)"


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any] | None:
    """Return what netplan says of job["interfaces"], or None if there is no netplan."""
    if not shutil.which("netplan"):
        return None
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # Python would leave its bytecode on the node
    done = subprocess.run(["netplan", "get"], capture_output=True, text=True, env=quiet, check=False)
    return report(done.stdout, done.stderr, job["interfaces"])


def report(printed: str, complaints: str, interfaces: Sequence[str]) -> dict[str, Any]:
    """Given what netplan prints, and on standard error, return what is asked of it. `error` is netplan's own word."""
    error = next((line for line in complaints.splitlines() if line.startswith(FAILURES)), None)
    network = (_loaded(printed) or {}).get("network") or {} if error is None else {}
    ethernets = network.get("ethernets") or {}
    return {
        "error": error,
        "renderer": network.get("renderer"),
        "addresses": {name: (ethernets.get(name) or {}).get("addresses") or [] for name in interfaces},
    }


def _loaded(text: str) -> Any:
    command = [PYTHON, "-I", "-B", "-c", TO_JSON]
    return json.loads(subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout)
