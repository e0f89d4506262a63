"""Log lines in the form of K3s, and the words to systemd."""

from __future__ import annotations

import json
import os
import socket
import sys

from gb10.lab.kube.objects import now


def log(level: str, message: str) -> None:
    """Write one line as logrus does; under systemd it ends in the journal."""
    print(f'time="{now()}" level={level} msg={json.dumps(message)}', file=sys.stderr, flush=True)


def notify(state: str) -> None:
    """Tell systemd a state such as READY=1, where it asked for that (Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())
