"""Run on a node: what netplan's merged files say of the interfaces in the arguments, as JSON.

One run of netplan, which takes long to start. All that it prints stays here: there may be secrets of others in it
(Wi-Fi). PyYAML is there where netplan is, which needs it. Nothing is written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import yaml

FAILURES = ("Command failed", "Error", "Traceback")  # on standard error alone: netplan exits with 0 all the same


def report(printed: str, complaints: str, interfaces: list[str]) -> dict[str, Any]:
    """Given what netplan prints, and on standard error, return what is asked of it. `error` is netplan's own word."""
    error = next((line for line in complaints.splitlines() if line.startswith(FAILURES)), None)
    network = (yaml.safe_load(printed) or {}).get("network") or {} if error is None else {}
    ethernets = network.get("ethernets") or {}
    return {
        "error": error,
        "renderer": network.get("renderer"),
        "addresses": {name: (ethernets.get(name) or {}).get("addresses") or [] for name in interfaces},
    }


if __name__ == "__main__":
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # Python would leave its bytecode on the node
    done = subprocess.run(["netplan", "get"], capture_output=True, text=True, env=quiet, check=False)
    print(json.dumps(report(done.stdout, done.stderr, sys.argv[1:])))
