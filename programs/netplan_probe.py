"""The merged netplan configuration of some interfaces.

netplan starts slowly, so it runs once. Its output stays on the node: it may hold secrets of others (Wi-Fi). Where
netplan is, the system's own Python has PyYAML. Nothing is written.
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
    """Return the configuration of job["interfaces"], or None if there is no netplan."""
    if not shutil.which("netplan"):
        return None
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # Python would leave its bytecode on the node
    done = subprocess.run(["netplan", "get"], capture_output=True, text=True, env=quiet, check=False)
    return report(done.stdout, done.stderr, job["interfaces"])


def report(output: str, errors: str, interfaces: Sequence[str]) -> dict[str, Any]:
    """Given the output of netplan, return the configuration of interfaces. `error` is a message of netplan."""
    error = next((line for line in errors.splitlines() if line.startswith(FAILURES)), None)
    network = (_loaded(output) or {}).get("network") or {} if error is None else {}
    ethernets = network.get("ethernets") or {}
    return {
        "error": error,
        "renderer": network.get("renderer"),
        "addresses": {name: (ethernets.get(name) or {}).get("addresses") or [] for name in interfaces},
    }


def _loaded(text: str) -> Any:
    command = [PYTHON, "-I", "-B", "-c", TO_JSON]
    return json.loads(subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout)
