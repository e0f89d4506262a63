"""Run as `python -m gb10.controller.run.inventory_probe INVENTORY`: what pyinfra makes of an inventory, as JSON.

Not to be imported: pyinfra_cli patches the process that imports it.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from traceback import extract_tb
from typing import Any

import pyinfra
from pyinfra.api import Config, Host, State
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.exceptions import UnexpectedExternalError  # type: ignore[import-untyped] # has no py.typed
from pyinfra_cli.inventory import make_inventory  # type: ignore[import-untyped] # likewise

# Never a password: what is printed here may end in an error text.
KEYS = (
    "ssh_hostname",
    "ssh_port",
    "ssh_user",
    "ssh_key",
    "ssh_known_hosts_file",
    "ssh_config_file",
    "node_name",
    "k3s_version",
    "rails",
    "gpu_operator_enabled",
    "network_operator_enabled",
    "images",
    "node_data_path",
    "node_huggingface_home",
    "node_rails",
    "node_rails_mtu",
    "rebuild_hooks",
    "rebuild_models",
    "rebuild_notify",
    "rebuild_solo_seconds",
    "rebuild_validate_seconds",
    "rebuild_validate_without",
    "node_ip",
    "node_serving_containers",
    "serving_modes",
    "serving_image",
    "serving_port",
    "serving_options",
    "serving_rdma_options",
    "serving_environment",
    "serving_arguments",
    "serving_env_file",
    "serving_load_seconds",
    "serving_stop_seconds",
    "serving_completion_seconds",
)


def main(source: str) -> dict[str, Any]:
    """Given an inventory, return {"hosts": [...]} or {"error": one line with file and line number}."""
    pyinfra.is_cli = True
    sys.dont_write_bytecode = True
    state = State(check_for_changes=False)
    state.cwd = os.getcwd()
    ctx_state.set(state)
    ctx_config.set(Config())
    try:
        inventory = make_inventory(source, cwd=state.cwd)
        return {"hosts": [_entry(host) for host in inventory]}
    except UnexpectedExternalError as error:
        return {"error": _one_line(error.exception, error.filename)}
    except Exception as error:  # whatever the inventory does, it is the inventory's error
        return {"error": _one_line(error, source)}


def _entry(host: Host) -> dict[str, Any]:
    return {"name": host.name, "groups": list(host.groups), "data": {key: host.data.get(key) for key in KEYS}}


def _one_line(error: BaseException, filename: str) -> str:
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == filename]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())} ({filename}{f', line {line}' if line else ''})"


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # an inventory that prints must not spoil the JSON
        document = main(sys.argv[1])
    print(json.dumps(document, default=str))
