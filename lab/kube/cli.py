"""The `k3s` command, except `kubectl` and `--version`, which the shell lines of the executable run (build.py)."""

from __future__ import annotations

import base64
import datetime
import sys
from typing import NoReturn

from gb10.lab.kube import paths
from gb10.lab.kube.errors import StartError

USAGE = """NAME:
   k3s - the lab's stand-in for Kubernetes, but small and simple

USAGE:
   k3s command [command options]

COMMANDS:
   server        Run management server
   agent         Run node agent
   kubectl       Run kubectl
   token         Manage tokens (create, list)
   check-config  Run config check
"""
BOOTSTRAP_HOURS = 24


def main(version: str) -> NoReturn:
    """Run this process's command line and exit with its status."""
    try:
        sys.exit(_dispatch(sys.argv[1:], version))
    except StartError as error:
        from gb10.lab.kube.journal import log  # noqa: PLC0415 - load only what a command needs

        log("fatal", f"Error: {error}")
        sys.exit(1)


def _dispatch(arguments: list[str], version: str) -> int:
    command, rest = (arguments or ["help"])[0], arguments[1:]
    if command in ("help", "--help", "-h"):
        print(USAGE, end="")
    elif command in ("server", "agent"):
        _run(command, rest, version)
    elif command == "token":
        _token(rest)
    elif command == "check-config":
        print("Verifying binaries in the lab's stand-in:\n- sha256sum: good\n\nSTATUS: pass")
    else:
        print(f'No help topic for "{command}"', file=sys.stderr)
        return 3
    return 0


def _run(role: str, arguments: list[str], version: str) -> None:
    from gb10.lab.kube import agent, config, server  # noqa: PLC0415 - load only what a command needs

    options = config.read(role, arguments)
    (server if role == "server" else agent).run(options, version)


def _token(arguments: list[str]) -> None:
    """Print a new bootstrap token (`k3s token create`) or the ids of all (`k3s token list`)."""
    from gb10.lab.kube import server, tokens  # noqa: PLC0415 - load only what a command needs

    folder = server.Folder(paths.rooted(paths.DATA_DIR))
    if not folder.admin.exists():
        raise StartError(f"stat {folder.admin.certificate}: no such file or directory")
    api = server.admin_client(_server_url(), folder)
    secrets = "/api/v1/namespaces/kube-system/secrets"
    if arguments[:1] == ["create"]:
        token = tokens.new_bootstrap()
        identifier, _, secret = token.partition(".")
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=BOOTSTRAP_HOURS)
        fields = {"token-id": identifier, "token-secret": secret, "expiration": expires.isoformat(timespec="seconds")}
        body = {
            "metadata": {"name": f"bootstrap-token-{identifier}"},
            "type": "bootstrap.kubernetes.io/token",
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in fields.items()},
        }
        api.call("POST", secrets, body)
        print(tokens.format_token(folder.ca(), "", token))
    elif arguments[:1] == ["list"]:
        print("TOKEN     EXPIRES")
        for found in api.call("GET", secrets)["items"]:
            if found.get("type") == "bootstrap.kubernetes.io/token":
                fields = {key: base64.b64decode(value).decode() for key, value in found["data"].items()}
                print(f"{fields['token-id']}    {fields['expiration']}")
    else:
        raise StartError(f"k3s token {' '.join(arguments)}: the stand-in knows only create and list")


def _server_url() -> str:
    """Return the local server's URL from its kubeconfig."""
    path = paths.rooted(paths.KUBECONFIG)
    found = next((line for line in path.read_text().splitlines() if line.strip().startswith("server: ")), None)
    if found is None:
        raise StartError(f"{path} names no server")
    return found.split()[1]
